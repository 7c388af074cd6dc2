//! The states of one message and the ways between them.

/// How far one message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MessageState {
    /// Not yet handed to the provider.
    Queued,
    /// Claimed: it may or may not have reached the provider.
    Sending,
    /// The provider has it.
    Sent,
    /// The provider has passed it on.
    Enroute,
    /// Delivered. Final.
    Delivrd,
    /// Could not be delivered. Final.
    Undeliv,
    /// Not delivered in time. Final.
    Expired,
    /// Refused by the provider or the network. Final.
    Rejectd,
    /// Removed by the network. Final.
    Deleted,
    /// Nobody could tell until the deadline. Final.
    Unknown,
    /// Its schedule was cancelled before it was handed over. Final.
    Cancelled,
}

use MessageState as S;

impl MessageState {
    /// Every state, in the order of [`MessageState::index`].
    pub const ALL: [Self; 11] = [
        S::Queued,
        S::Sending,
        S::Sent,
        S::Enroute,
        S::Delivrd,
        S::Undeliv,
        S::Expired,
        S::Rejectd,
        S::Deleted,
        S::Unknown,
        S::Cancelled,
    ];

    /// Position in [`MessageState::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word for it, on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            S::Queued => "QUEUED",
            S::Sending => "SENDING",
            S::Sent => "SENT",
            S::Enroute => "ENROUTE",
            S::Delivrd => "DELIVRD",
            S::Undeliv => "UNDELIV",
            S::Expired => "EXPIRED",
            S::Rejectd => "REJECTD",
            S::Deleted => "DELETED",
            S::Unknown => "UNKNOWN",
            S::Cancelled => "CANCELLED",
        }
    }

    /// The state of a word of [`MessageState::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether it never changes again.
    pub fn is_final(self) -> bool {
        !matches!(self, S::Queued | S::Sending | S::Sent | S::Enroute)
    }

    /// Whether a message in this state may become `next`.
    ///
    /// A queued message may become sent at once: that is the provider's late word on an attempt that was given up, and
    /// heeding it is what keeps the message from being sent twice.
    pub fn may_become(self, next: Self) -> bool {
        match self {
            S::Queued => matches!(next, S::Sending | S::Sent | S::Cancelled),
            S::Sending => !matches!(next, S::Sending | S::Enroute),
            S::Sent => next == S::Enroute || (next.is_final() && next != S::Cancelled),
            S::Enroute => next.is_final() && next != S::Cancelled,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_state() -> impl Strategy<Value = MessageState> {
        proptest::sample::select(MessageState::ALL.to_vec())
    }

    #[test]
    fn words_and_positions_are_unique() {
        for (index, state) in MessageState::ALL.into_iter().enumerate() {
            assert_eq!(state.index(), index);
            assert_eq!(MessageState::parse(state.as_str()), Some(state));
        }
        assert_eq!(MessageState::parse("delivrd"), None);
    }

    proptest! {
        #[test]
        fn what_is_final_never_changes(walk in proptest::collection::vec(any_state(), 0..40)) {
            let mut state = S::Queued;
            let mut ended = None;
            for next in walk {
                if state.may_become(next) {
                    prop_assert_ne!(state, next);
                    prop_assert_eq!(ended, None, "{:?} became {:?}", state, next);
                    state = next;
                }
                if state.is_final() {
                    ended = Some(state);
                }
            }
        }

        #[test]
        fn what_the_provider_has_is_never_sent_again(state in any_state(), next in any_state()) {
            let has = |s| !matches!(s, S::Queued | S::Sending);
            if has(state) && state.may_become(next) {
                prop_assert!(has(next));
            }
        }
    }
}
