//! Who can be paid: the wallet's own picture of the users, so that payments go on when nobody else answers.

use super::UserId;

/// How a payer names a payee.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PayeeRef {
    /// By public handle, in capitals.
    Handle(String),
    /// By keyed hash of the normalised e-mail address; finds only who has shown that it is theirs.
    EmailHash(Vec<u8>),
    /// By id.
    User(UserId),
}

/// How far a user has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayeeState {
    /// Registered; can be paid by handle and id.
    Registered,
    /// Has shown that the e-mail address is theirs; can be paid by it too.
    Verified,
}

impl PayeeState {
    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Verified => "verified",
        }
    }
}

/// A user as the wallet knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payee {
    /// Who.
    pub user: UserId,
    /// Public handle, in capitals.
    pub handle: String,
    /// Keyed hash of the normalised e-mail address.
    pub email_hash: Vec<u8>,
    /// How far they have come.
    pub state: PayeeState,
    /// Version of the user that this was last told by.
    pub version: i64,
}
