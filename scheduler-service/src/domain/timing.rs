//! When a schedule may start.

use jiff::{SignedDuration, Timestamp};

/// How far in the past a start still means "now".
pub const GRACE: SignedDuration = SignedDuration::from_secs(60);
/// How far ahead a schedule may lie.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The instant at which a schedule starts that was asked for at `run_at`.
///
/// # Errors
/// What is wrong, for a person, when `run_at` is more than a minute past or more than a year ahead.
pub fn start_at(run_at: Timestamp, now: Timestamp) -> Result<Timestamp, String> {
    let ahead = run_at.duration_since(now);
    if ahead < -GRACE {
        return Err("must not lie more than 60 seconds in the past".to_owned());
    }
    if ahead > HORIZON {
        return Err("must not lie more than a year ahead".to_owned());
    }
    Ok(run_at.max(now))
}

/// Number of the UTC day of `at`, from 1970-01-01.
pub fn day_of(at: Timestamp) -> i64 {
    at.as_second().div_euclid(86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_past_means_now_and_a_year_is_the_end() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let at = |s: i64| now + SignedDuration::from_secs(s);
        assert_eq!(start_at(at(0), now).unwrap(), now);
        assert_eq!(start_at(at(-60), now).unwrap(), now);
        assert!(start_at(at(-61), now).is_err());
        assert_eq!(start_at(at(3600), now).unwrap(), at(3600));
        assert!(start_at(at(366 * 86_400), now).is_ok());
        assert!(start_at(at(367 * 86_400), now).is_err());
        assert!(start_at(Timestamp::MAX, now).is_err());
        assert!(start_at(Timestamp::MIN, now).is_err());
    }

    #[test]
    fn days_turn_at_midnight_utc() {
        assert_eq!(day_of(Timestamp::from_second(86_399).unwrap()), 0);
        assert_eq!(day_of(Timestamp::from_second(86_400).unwrap()), 1);
        assert_eq!(day_of(Timestamp::from_second(-1).unwrap()), -1);
    }
}
