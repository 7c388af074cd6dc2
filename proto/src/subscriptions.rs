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

/// A type that a consumer took in an earlier release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Name of the consumer.
    pub consumer: &'static str,
    /// Full name of the message that it takes no more.
    pub r#type: &'static str,
}

/// Every subscription of the product.
pub const ALL: &[Subscription] = &[WALLET_USERS, NOTIFY];

/// What consumers take no more. The broker keeps a binding until somebody takes it away; every process takes these away
/// when it starts.
///
/// To retire a type, move it in one release from the consumer's [`Subscription::types`] to here, and leave it here for at
/// least until no release is run any more that takes it: an older process binds it again. Facts of the type that are in
/// the consumer's queue by then wait for a version that takes them, and become dead letters a day after they happened. To
/// have none, let the consumer take the type and do nothing for one release before.
///
/// To take a type again, remove it from here once no process is left that has it here.
pub const RETIRED: &[Retired] = &[];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use prost::Name;

    use super::{ALL, RETIRED};
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
    fn nothing_is_both_taken_and_retired() {
        for retired in RETIRED {
            let mut takers = ALL
                .iter()
                .filter(|taker| taker.types.contains(&retired.r#type));
            assert!(
                takers.all(|taker| taker.consumer != retired.consumer),
                "{retired:?}"
            );
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
