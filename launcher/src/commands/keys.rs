use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use auth_service::signing;
use clap::Args;
use platform::clock::{Clock, SystemClock};
use platform::keys::Keys;

use super::Failure;

/// What every process gets.
const FOR_ALL: [(&str, &str); 3] = [
    (
        "service.key",
        "signs the calls of services among each other",
    ),
    ("lookup.key", "keys the hash of e-mail addresses"),
    ("mail.pub", "seals what only a mail may carry"),
];

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Folder to make them in; made where it is missing
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

impl Create {
    /// Makes the secrets that the separate services share, and tells who needs which.
    pub(super) fn run(self) -> Result<(), Failure> {
        let signing = create(&self.dir)?;
        let mut out = std::io::stdout();
        writeln!(out, "made in {}:", self.dir.display())?;
        let mut line =
            |name: &str, whom: &str, what: &str| writeln!(out, "  {name:<12} for {whom}: {what}");
        for (name, what) in FOR_ALL {
            line(name, "the gateway and every service", what)?;
        }
        line(
            "mail.key",
            "notify-service alone",
            "opens what mail.pub has sealed",
        )?;
        line(&signing, "auth-service alone", "signs access tokens")?;
        writeln!(
            out,
            "Keep a copy in a safe place: nothing can make them again. COFFER_KEYS_DIR names the folder to a service."
        )?;
        Ok(())
    }
}

/// Makes a complete set; returns the name of the signing key's file.
fn create(dir: &Path) -> anyhow::Result<String> {
    ensure!(
        !dir.exists() || !signing::has_keys(dir)?,
        "a signing key is in {} already and stays as it is",
        dir.display()
    );
    let keys = Keys::create(dir)?;
    signing::create_key(&keys, SystemClock.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_set_is_complete_and_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("new/keys");
        let signing = create(&dir).expect("a set");
        let made = names(&dir);
        assert_eq!(
            made,
            [
                "lookup.key",
                "mail.key",
                "mail.pub",
                "service.key",
                &signing
            ]
        );
        let keys = Keys::load(&dir).expect("what a service needs");
        keys.ensure_opens_mail().expect("what notify-service needs");
        signing::Signer::load_or_create(&keys, SystemClock.now()).expect("what auth-service needs");

        let refused = create(&dir).expect_err("a second set").to_string();
        assert!(refused.contains("already"), "{refused}");
        assert_eq!(names(&dir), made);
    }

    #[test]
    fn one_secret_that_is_there_is_enough_to_refuse() {
        for name in ["service.key", "mail.key", "signing-x.pem"] {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join(name), b"precious").expect("a file");
            let refused = create(folder.path()).expect_err("an overwrite").to_string();
            assert!(refused.contains("already"), "{refused}");
            assert_eq!(names(folder.path()), [name]);
        }
    }
}
