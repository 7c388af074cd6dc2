//! Who listens to which facts.
//!
//! Part of the contracts: whoever publishes must know where a fact has to wait for those that take it, also for one that
//! has never been started yet.

/// What one consumer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscription {
    /// Name of the consumer, which its queue, its inbox rows and its dead letters carry. Never changed.
    pub consumer: &'static str,
    /// Full names of the messages that it takes, e.g. `wallet.v1.TransferPosted`.
    pub types: &'static [&'static str],
}

/// The wallet's directory of payees.
pub const WALLET_USERS: Subscription = Subscription {
    consumer: "wallet.users",
    types: &["identity.v1.UserRegistered", "identity.v1.EmailVerified"],
};

/// What people are told.
pub const NOTIFY: Subscription = Subscription {
    consumer: "notify-service",
    types: &[
        "identity.v1.UserRegistered",
        "identity.v1.MailRequested",
        "identity.v1.SessionRevoked",
        "wallet.v1.DepositPosted",
        "wallet.v1.TransferPosted",
        "wallet.v1.TransferRefused",
        "scheduler.v1.SmsScheduleFinished",
    ],
};

/// Every subscription of the product.
pub const ALL: &[Subscription] = &[WALLET_USERS, NOTIFY];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Name;

    use super::ALL;
    use crate::identity::v1::{EmailVerified, MailRequested, SessionRevoked, UserRegistered};
    use crate::scheduler::v1::SmsScheduleFinished;
    use crate::wallet::v1::{DepositPosted, TransferPosted, TransferRefused};

    #[test]
    fn every_type_is_a_message_of_the_contracts() {
        let known = HashSet::from([
            UserRegistered::full_name(),
            EmailVerified::full_name(),
            MailRequested::full_name(),
            SessionRevoked::full_name(),
            DepositPosted::full_name(),
            TransferPosted::full_name(),
            TransferRefused::full_name(),
            SmsScheduleFinished::full_name(),
        ]);
        for r#type in ALL.iter().flat_map(|subscription| subscription.types) {
            assert!(known.contains(*r#type), "{type} is no message");
        }
    }

    #[test]
    fn names_are_unique() {
        let names: HashSet<_> = ALL
            .iter()
            .map(|subscription| subscription.consumer)
            .collect();
        assert_eq!(names.len(), ALL.len());
    }
}
