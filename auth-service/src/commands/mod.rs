//! What can be asked of identity, one use case a file.

mod login;
mod logout;
mod logout_all;
mod refresh;
mod register;
mod resend_verification;
mod session;
mod throttle;
mod update_profile;
mod verify_email;

use std::sync::Arc;

pub use login::Login;
use platform::keys::Keys;
use platform::work::Work;
pub use register::Register;
pub use session::{SignedIn, Tokens};
pub use update_profile::ProfileChange;

use crate::config::AuthConfig;
use crate::hashing::Hasher;
use crate::revocation_feed::RevocationFeed;
use crate::signing::Signer;

/// The commands and what they work with.
pub struct Commands {
    /// Opens transactions.
    pub work: Work,
    /// Settings.
    pub config: AuthConfig,
    /// Secrets that services share.
    pub keys: Arc<Keys>,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Signs access tokens.
    pub signer: Signer,
    /// Tells revocations.
    pub feed: RevocationFeed,
}

/// Where a call came from, cut to what is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Address as the gateway saw it, at most 64 characters.
    pub ip: String,
    /// User-Agent without control characters, at most 512 bytes.
    pub user_agent: String,
}

impl Client {
    /// Cuts and cleans what came from outside.
    pub fn new(ip: &str, user_agent: &str) -> Self {
        let clean = |text: &str, most: usize| {
            let mut kept = String::new();
            for c in text.chars().filter(|c| !c.is_control()) {
                if kept.len() + c.len_utf8() > most {
                    break;
                }
                kept.push(c);
            }
            kept
        };
        Self {
            ip: clean(ip.trim(), 64),
            user_agent: clean(user_agent, 512),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Client;

    #[test]
    fn what_a_client_says_of_itself_is_cut_between_characters() {
        let client = Client::new(" 203.0.113.9 ", &format!("a\r\n{}", "é".repeat(300)));
        assert_eq!(client.ip, "203.0.113.9");
        assert_eq!(client.user_agent, format!("a{}", "é".repeat(255)));
    }
}
