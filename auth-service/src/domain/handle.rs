//! The public wallet handle that others pay to: two letters, six digits and two check digits, e.g. `KX48210735`.
//!
//! The check digits are those of ISO 7064 MOD 97-10, the scheme of IBANs: letters count as 10 (A) to 35 (Z), and the
//! whole number leaves 1 when divided by 97. Every single wrong character is noticed, and so is every swap of two
//! neighbours. `I` and `O` are not used, because people read them as 1 and 0. The 576 million handles are drawn at
//! random, so that one says nothing about when its owner came or who is next.

/// Letters that handles begin with.
const LETTERS: &[u8; 24] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
/// How many numbers of six digits there are.
const NUMBERS: u64 = 1_000_000;
/// How many handles there are.
const SPACE: u64 = 24 * 24 * NUMBERS;
/// Characters in a handle.
const LENGTH: usize = 10;

/// A well-formed handle in its one written form: upper case, no separators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle(String);

impl Handle {
    /// The handle that a random number stands for.
    pub fn draw(random: u64) -> Self {
        let place = random % SPACE;
        let (letters, number) = (place / NUMBERS, place % NUMBERS);
        let letter = |index: u64| char::from(LETTERS[(index % 24) as usize]);
        let body = format!("{}{}{number:06}", letter(letters / 24), letter(letters));
        let check = 98 - remainder(&body) * 100 % 97;
        Self(format!("{body}{check:02}"))
    }

    /// Reads a handle as a person writes it: in either case, with spaces or hyphens. `None` unless its check digits fit.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 4 * LENGTH {
            return None;
        }
        let plain: String = text
            .chars()
            .filter(|c| !matches!(c, ' ' | '-'))
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let bytes = plain.as_bytes();
        let shaped = bytes.len() == LENGTH
            && bytes[..2].iter().all(|b| LETTERS.contains(b))
            && bytes[2..].iter().all(u8::is_ascii_digit);
        (shaped && remainder(&plain) == 1).then_some(Self(plain))
    }

    /// The written form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Remainder by 97 of digits and capital letters, where letters count as 10 to 35.
fn remainder(text: &str) -> u32 {
    text.chars()
        .filter_map(|c| c.to_digit(36))
        .fold(0, |sum, value| {
            let shift = if value < 10 { 10 } else { 100 };
            (sum * shift + value) % 97
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_drawn_handle_is_well_formed(random: u64) {
            let handle = Handle::draw(random);
            prop_assert_eq!(Handle::parse(handle.as_str()), Some(handle.clone()));
            prop_assert_eq!(Handle::parse(&handle.as_str().to_lowercase()), Some(handle));
        }

        #[test]
        fn one_wrong_character_is_noticed(random: u64, place in 0..LENGTH, other in 0_usize..24) {
            let good = Handle::draw(random);
            let mut bytes = good.as_str().as_bytes().to_vec();
            bytes[place] = if place < 2 { LETTERS[other] } else { b'0' + (other % 10) as u8 };
            let changed = String::from_utf8(bytes).unwrap();
            prop_assume!(changed != good.as_str());
            prop_assert_eq!(Handle::parse(&changed), None);
        }

        #[test]
        fn swapped_neighbours_are_noticed(random: u64, place in 0..LENGTH - 1) {
            let good = Handle::draw(random);
            let mut bytes = good.as_str().as_bytes().to_vec();
            bytes.swap(place, place + 1);
            let changed = String::from_utf8(bytes).unwrap();
            prop_assume!(changed != good.as_str());
            prop_assert_eq!(Handle::parse(&changed), None);
        }

        #[test]
        fn no_text_breaks_the_reader(text: String) {
            let _ = Handle::parse(&text);
        }
    }

    #[test]
    fn separators_are_forgiven() {
        let handle = Handle::draw(7);
        let text = handle.as_str();
        let spaced = format!("{}-{} {}", &text[..2], &text[2..6], &text[6..]);
        assert_eq!(Handle::parse(&spaced), Some(handle));
    }

    #[test]
    fn neighbours_in_the_draw_differ_by_their_check_digits() {
        assert_ne!(Handle::draw(1).as_str()[8..], Handle::draw(2).as_str()[8..]);
    }
}
