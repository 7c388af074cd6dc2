//! Opaque secrets: 32 random bytes, told once as text and kept only as a hash.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// A refresh or mail token at the one moment when its text is known.
pub struct Opaque {
    /// What its holder gets: 43 characters of base64url.
    pub text: String,
    /// What is stored.
    pub hash: Vec<u8>,
}

impl Opaque {
    /// The token of 32 random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        let text = URL_SAFE_NO_PAD.encode(random);
        let hash = hash(&text);
        Self { text, hash }
    }
}

/// The stored form of a token that came back. Its 256 random bits need no slow hash.
pub fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_by_its_text_only() {
        let token = Opaque::new([7; 32]);
        assert_eq!(token.text.len(), 43);
        assert_eq!(hash(&token.text), token.hash);
        assert_ne!(token.text.as_bytes(), token.hash);
        assert_ne!(Opaque::new([8; 32]).hash, token.hash);
    }
}
