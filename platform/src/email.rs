//! E-mail addresses: one way to compare them, one way to check them.

use crate::FieldViolation;

/// The longest address that SMTP can deliver to, in bytes (RFC 5321).
const LONGEST: usize = 254;

/// The form in which two addresses of one person are equal: trimmed, in lower case.
pub fn normalise(address: &str) -> String {
    address.trim().to_lowercase()
}

/// Checks an address that came from outside and returns it trimmed, otherwise as the user wrote it.
///
/// Only what can safely stand in a mail header passes: ASCII, no quoting, no white space.
///
/// # Errors
/// A violation that names `field`.
pub fn validate(field: &str, address: &str) -> Result<String, FieldViolation> {
    let address = address.trim();
    let problem = if address.is_empty() {
        Some("is missing")
    } else if address.len() > LONGEST {
        Some("is longer than 254 bytes")
    } else if !is_address(address) {
        Some("is not an e-mail address")
    } else {
        None
    };
    match problem {
        Some(problem) => Err(FieldViolation::new(field, problem)),
        None => Ok(address.to_owned()),
    }
}

fn is_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    is_local(local) && is_domain(domain)
}

fn is_local(local: &str) -> bool {
    (1..=64).contains(&local.len())
        && local.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        })
}

fn is_domain(domain: &str) -> bool {
    let mut labels = 0;
    for label in domain.split('.') {
        labels += 1;
        let fits = (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-');
        if !fits {
            return false;
        }
    }
    // An address of a machine is no domain.
    let last = domain.rsplit('.').next().unwrap_or_default();
    labels >= 2 && last.parse::<u64>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_person_are_equal() {
        assert_eq!(normalise("  Asha.Rao@Example.ORG "), "asha.rao@example.org");
    }

    #[test]
    fn an_address_is_kept_as_written_but_trimmed() {
        assert_eq!(
            validate("email", " Asha+Pay@Example.org\n").unwrap(),
            "Asha+Pay@Example.org"
        );
    }

    #[test]
    fn what_is_no_address_is_refused_by_field() {
        let long = format!("{}@{}.org", "a".repeat(64), "b".repeat(63).repeat(4));
        for bad in [
            "",
            " ",
            "x",
            "@example.org",
            "a@",
            "a@b",
            "a b@example.org",
            "a@exa mple.org",
            "a@example.org\r\nBcc: x@example.org",
            "\"a\"@example.org",
            "a..b@example.org",
            ".a@example.org",
            "a@-example.org",
            "a@example..org",
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "ä@example.org",
            "a@example.org,b@example.org",
            "a@b@",
            &long,
        ] {
            assert_eq!(
                validate("email", bad).unwrap_err().field,
                "email",
                "{bad:?}"
            );
        }
    }
}
