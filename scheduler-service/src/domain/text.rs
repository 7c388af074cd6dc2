//! Texts that users write: the message and the name of a schedule.

/// Most characters of a message.
pub const MAX_MESSAGE_CHARS: usize = 1600;
/// Most characters of a name.
pub const MAX_NAME_CHARS: usize = 200;

/// Checks a message: 1 to 1,600 characters, something visible among them, no control characters but line ends and tabs.
///
/// # Errors
/// What is wrong, for a person.
pub fn check_message(text: &str) -> Result<(), String> {
    if text.trim().is_empty() || text.chars().count() > MAX_MESSAGE_CHARS {
        return Err(format!("must have 1 to {MAX_MESSAGE_CHARS} characters"));
    }
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err("must not contain control characters".to_owned());
    }
    Ok(())
}

/// Checks a name: at most 200 characters, no control characters; it may be empty.
///
/// # Errors
/// What is wrong, for a person.
pub fn check_name(text: &str) -> Result<(), String> {
    if text.chars().count() > MAX_NAME_CHARS {
        return Err(format!("must have at most {MAX_NAME_CHARS} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_1_to_1600_characters() {
        assert!(check_message("नमस्ते\nworld 🙂").is_ok());
        assert!(check_message(&"é".repeat(1600)).is_ok());
        assert!(check_message(&"é".repeat(1601)).is_err());
        assert!(check_message("").is_err());
        assert!(check_message(" \n").is_err());
        assert!(check_message("a\0b").is_err());
    }

    #[test]
    fn names_are_short_and_of_one_line() {
        assert!(check_name("").is_ok());
        assert!(check_name(&"x".repeat(201)).is_err());
        assert!(check_name("a\nb").is_err());
    }
}
