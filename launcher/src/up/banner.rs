use std::io::Write;
use std::time::Duration;

use super::Running;

const FIRST_PERSON: &str = r#"{"first_name":"Asha","last_name":"Rao","email":"asha@example.com","password":"a long pass phrase"}"#;

/// Says where everything is and what to try next.
pub(super) fn show(running: &Running, took: Duration) -> std::io::Result<()> {
    let (url, config) = (running.url(), running.config());
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "\nCoffer is ready after {:.1} s.\n",
        took.as_secs_f64()
    )?;
    writeln!(out, "  API    {url}/v1")?;
    writeln!(out, "  Docs   {url}/docs")?;
    writeln!(out, "  Data   {}", config.data_dir.display())?;
    writeln!(out, "  Mail   {}", config.mail_dir().display())?;
    writeln!(out, "\nTry in a second terminal:\n")?;
    writeln!(
        out,
        "  cargo run -- demo          plays the main journey and checks it"
    )?;
    writeln!(out, "  curl -s {url}/health/ready")?;
    writeln!(
        out,
        "  curl -s {url}/v1/auth/register -H 'content-type: application/json' \\"
    )?;
    writeln!(out, "    -d '{FIRST_PERSON}'")?;
    writeln!(out, "\nCtrl-C stops it.\n")?;
    out.flush()
}
