//! What makes a password acceptable: its length, and that attackers do not try it first. No composition rules, which
//! make passwords worse.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::Invalid;

/// Fewest characters of a password.
pub const MIN_CHARS: usize = 8;
/// Most characters of a password.
pub const MAX_CHARS: usize = 128;
/// Most bytes that a password within [`MAX_CHARS`] can have.
pub const MAX_BYTES: usize = 4 * MAX_CHARS;

/// Passwords in the order of the alphabet, one a line, lower case, none shorter than [`MIN_CHARS`].
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// Judges a new password; `email` is the normalised address of its owner.
///
/// # Errors
/// What is wrong with it.
pub fn check(password: &str, email: &str) -> Result<(), Invalid> {
    let chars = password.chars().count();
    if !(MIN_CHARS..=MAX_CHARS).contains(&chars) {
        return Err(Invalid("must have 8 to 128 characters"));
    }
    let folded = password.to_lowercase();
    if COMMON.contains(folded.as_str()) {
        return Err(Invalid("is among the passwords that are guessed first"));
    }
    if !email.is_empty() && folded == email {
        return Err(Invalid("must not be your e-mail address"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(check("कखगघङचछ", "").is_err());
        assert!(check("कखगघङचछज", "").is_ok());
        assert!(check(&"é".repeat(128), "").is_ok());
        assert!(check(&"é".repeat(129), "").is_err());
    }

    #[test]
    fn common_passwords_are_refused_in_any_case() {
        for password in [
            "password",
            "PassWord1",
            "12345678",
            "qwertyuiop",
            "P@ssw0rd",
            "iloveyou",
        ] {
            assert!(check(password, "").is_err(), "{password}");
        }
        assert!(check("correct horse battery", "").is_ok());
    }

    #[test]
    fn ones_own_address_is_no_password() {
        assert!(check("Ana@Example.org", "ana@example.org").is_err());
    }

    #[test]
    fn the_list_is_ready_to_be_asked() {
        assert!(COMMON.len() > 3000);
        for entry in COMMON.iter() {
            assert_eq!(*entry, entry.to_lowercase());
            assert!(
                (MIN_CHARS..=MAX_CHARS).contains(&entry.chars().count()),
                "{entry}"
            );
        }
    }
}
