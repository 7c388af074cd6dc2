//! The mails: texts by template and locale.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::{Environment, UndefinedBehavior, Value};

/// Locale of last resort; every template exists in it.
const FALLBACK: &str = "en";

/// Names of the templates.
pub(crate) const NAMES: [&str; 2] = ["verify_email", "register_attempt"];

/// Every file: `<locale>/<template>.<subject|text|html>`.
const FILES: [(&str, &str); 12] = [
    (
        "en/verify_email.subject",
        include_str!("../templates/en/verify_email.subject"),
    ),
    (
        "en/verify_email.text",
        include_str!("../templates/en/verify_email.text"),
    ),
    (
        "en/verify_email.html",
        include_str!("../templates/en/verify_email.html"),
    ),
    (
        "en/register_attempt.subject",
        include_str!("../templates/en/register_attempt.subject"),
    ),
    (
        "en/register_attempt.text",
        include_str!("../templates/en/register_attempt.text"),
    ),
    (
        "en/register_attempt.html",
        include_str!("../templates/en/register_attempt.html"),
    ),
    (
        "de/verify_email.subject",
        include_str!("../templates/de/verify_email.subject"),
    ),
    (
        "de/verify_email.text",
        include_str!("../templates/de/verify_email.text"),
    ),
    (
        "de/verify_email.html",
        include_str!("../templates/de/verify_email.html"),
    ),
    (
        "de/register_attempt.subject",
        include_str!("../templates/de/register_attempt.subject"),
    ),
    (
        "de/register_attempt.text",
        include_str!("../templates/de/register_attempt.text"),
    ),
    (
        "de/register_attempt.html",
        include_str!("../templates/de/register_attempt.html"),
    ),
];

/// What a template may say.
#[derive(Debug, Clone)]
pub(crate) struct Values<'a> {
    /// Name to greet by; may be empty.
    pub(crate) name: &'a str,
    /// Secret values, e.g. `token`.
    pub(crate) secrets: &'a BTreeMap<String, String>,
    /// When the secret stops working.
    pub(crate) expires_at: Timestamp,
}

/// A mail's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) html: String,
}

/// Renders mails.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    public_url: String,
}

impl Templates {
    /// All templates; links begin with `public_url`.
    pub(crate) fn load(public_url: &str) -> Result<Self, minijinja::Error> {
        let mut environment = Environment::new();
        // A value that is missing must fail the mail and not leave a hole in it.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        for (name, source) in FILES {
            environment.add_template(name, source)?;
        }
        Ok(Self {
            environment,
            public_url: public_url.trim_end_matches('/').to_owned(),
        })
    }

    /// Renders a template in the best locale there is for `locale` (BCP 47): itself, its language, English.
    pub(crate) fn render(
        &self,
        template: &str,
        locale: &str,
        values: &Values<'_>,
    ) -> Result<Rendered, minijinja::Error> {
        let locale = self.best(template, locale);
        let context = self.context(values);
        let render = |part: &str| {
            self.environment
                .get_template(&format!("{locale}/{template}.{part}"))?
                .render(context.clone())
        };
        Ok(Rendered {
            subject: render("subject")?.trim().to_owned(),
            text: render("text")?,
            html: render("html")?,
        })
    }

    fn best(&self, template: &str, locale: &str) -> String {
        let locale = locale.to_ascii_lowercase();
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        [locale.as_str(), language]
            .into_iter()
            .find(|one| {
                let name = format!("{one}/{template}.subject");
                FILES.iter().any(|(file, _)| *file == name)
            })
            .unwrap_or(FALLBACK)
            .to_owned()
    }

    fn context(&self, values: &Values<'_>) -> BTreeMap<String, Value> {
        let mut context: BTreeMap<String, Value> = values
            .secrets
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        if let Some(token) = values.secrets.get("token") {
            let link = format!(
                "{}/verify-email?token={}",
                self.public_url,
                percent_encoded(token)
            );
            context.insert("link".to_owned(), as_written(link));
        }
        let expires = values.expires_at.to_zoned(TimeZone::UTC);
        let expires = expires.strftime("%Y-%m-%d %H:%M UTC").to_string();
        context.insert("expires_at".to_owned(), Value::from(expires));
        context.insert("name".to_owned(), Value::from(values.name));
        context.insert(
            "public_url".to_owned(),
            Value::from(self.public_url.as_str()),
        );
        context
    }
}

/// An address that stands in HTML as it is; minijinja would write its slashes as `&#x2f;`. One with any character that
/// means something in HTML is escaped after all.
fn as_written(link: String) -> Value {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$()*+,;=%".contains(&b);
    if link.bytes().all(harmless) {
        Value::from_safe_string(link)
    } else {
        Value::from(link)
    }
}

/// As RFC 3986 wants a value within a query.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, locale: &str, name: &str, token: Option<&str>) -> Option<Rendered> {
        let secrets = token
            .map(|t| ("token".to_owned(), t.to_owned()))
            .into_iter()
            .collect();
        let values = Values {
            name,
            secrets: &secrets,
            expires_at: Timestamp::from_second(1_700_000_000).unwrap(),
        };
        Templates::load("https://pay.example.org/")
            .unwrap()
            .render(template, locale, &values)
            .ok()
    }

    #[test]
    fn every_template_renders_in_every_locale() {
        for template in NAMES {
            for locale in ["en", "de"] {
                let mail = render(template, locale, "Asha", Some("t")).unwrap();
                assert!(
                    mail.text.contains("Asha") && mail.html.contains("Asha"),
                    "{mail:?}"
                );
                assert!(
                    !mail.subject.is_empty() && !mail.subject.contains('\n'),
                    "{mail:?}"
                );
            }
        }
    }

    #[test]
    fn the_verification_mail_carries_the_link_the_token_and_the_end() {
        let mail = render("verify_email", "en-IN", "Asha", Some("a-B_9")).unwrap();
        for part in [&mail.text, &mail.html] {
            assert!(
                part.contains("https://pay.example.org/verify-email?token=a-B_9"),
                "{part}"
            );
            assert!(part.contains("2023-11-14 22:13 UTC"), "{part}");
        }
        assert!(
            mail.text.lines().any(|line| line.trim() == "a-B_9"),
            "{}",
            mail.text
        );
    }

    #[test]
    fn locales_fall_back_to_their_language_and_then_to_english() {
        let subject = |locale| {
            render("verify_email", locale, "A", Some("t"))
                .unwrap()
                .subject
        };
        assert_eq!(subject("de-AT"), subject("de"));
        assert_ne!(subject("de"), subject("en"));
        for unknown in ["hi-IN", "", "../../etc/passwd", "EN"] {
            assert_eq!(subject(unknown), subject("en"), "{unknown}");
        }
    }

    #[test]
    fn values_are_escaped_where_they_stand() {
        let mail = render("verify_email", "en", "<b>&\"", Some("a&b=\"><script>")).unwrap();
        assert!(
            !mail.html.contains("<script>") && !mail.html.contains("<b>&"),
            "{}",
            mail.html
        );
        assert!(mail.html.contains("&lt;b&gt;"), "{}", mail.html);
        assert!(
            mail.text.contains("?token=a%26b%3D%22%3E%3Cscript%3E"),
            "{}",
            mail.text
        );
        assert!(
            mail.text.contains("<b>&\""),
            "plain text is not escaped: {}",
            mail.text
        );
    }

    #[test]
    fn a_missing_value_fails_the_mail() {
        assert_eq!(render("verify_email", "en", "A", None), None);
    }
}
