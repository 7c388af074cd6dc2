//! How long a session lasts.

use std::time::Duration;

use jiff::Timestamp;

/// What a session was granted, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// Unused, a session ends after this.
    pub refresh: Duration,
    /// The same for a session that was to be remembered.
    pub remembered: Duration,
    /// However much it is used, a session ends after this.
    pub absolute: Duration,
}

impl Lifetimes {
    /// When a refresh token expires that is issued at `now` in a session that began at `began`.
    pub fn refresh_expiry(&self, remembered: bool, began: Timestamp, now: Timestamp) -> Timestamp {
        let life = if remembered {
            self.remembered
        } else {
            self.refresh
        };
        later(now, life).min(later(began, self.absolute))
    }
}

/// `at` plus `by`, or the end of time.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const LIVES: Lifetimes = Lifetimes {
        refresh: DAY.saturating_mul(7),
        remembered: DAY.saturating_mul(30),
        absolute: DAY.saturating_mul(90),
    };

    #[test]
    fn use_renews_a_session_up_to_its_absolute_end() {
        let began = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(
            LIVES.refresh_expiry(false, began, began),
            later(began, DAY * 7)
        );
        assert_eq!(
            LIVES.refresh_expiry(true, began, began),
            later(began, DAY * 30)
        );
        let old = later(began, DAY * 85);
        assert_eq!(
            LIVES.refresh_expiry(false, began, old),
            later(began, DAY * 90)
        );
    }

    #[test]
    fn the_end_of_time_is_no_panic() {
        assert_eq!(later(Timestamp::MAX, DAY), Timestamp::MAX);
    }
}
