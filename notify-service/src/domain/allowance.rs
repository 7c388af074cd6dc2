//! So many a minute: each takes its share of the minute, and the shares grow back with time.

use std::time::Duration;

const MINUTE_MICROS: i64 = 60_000_000;

/// Takes one of `most` a minute. `until` is when the allowance is whole again; returns what it is afterwards, or how long
/// to wait, in whole seconds. Times are unix microseconds.
pub(crate) fn take(most: u32, until: i64, now: i64) -> Result<i64, Duration> {
    let share = MINUTE_MICROS / i64::from(most.max(1));
    let next = until.max(now) + share;
    let early = next - now - MINUTE_MICROS;
    if early > 0 {
        return Err(Duration::from_secs(
            early.unsigned_abs().div_ceil(1_000_000),
        ));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_may_come_at_once_and_then_one_by_one() {
        let (start, mut until) = (1_700_000_000_000_000, 0);
        for _ in 0..10 {
            until = take(10, until, start).unwrap();
        }
        assert_eq!(take(10, until, start), Err(Duration::from_secs(6)));
        let later = start + 6_000_000;
        until = take(10, until, later).unwrap();
        assert_eq!(
            take(10, until, later + 5_500_000),
            Err(Duration::from_secs(1))
        );
        assert_eq!(take(1, 0, start), Ok(start + MINUTE_MICROS));
    }
}
