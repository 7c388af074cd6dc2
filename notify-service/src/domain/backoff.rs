//! How long to wait before a channel is tried again.

use std::time::Duration;

/// The wait after failure number `attempt` (from 1): `base` doubled each time up to `most`, of which a random part
/// between a half and all is taken, so that what failed together does not return together. `jitter` is in 0..=1.
pub(crate) fn wait(attempt: u32, base: Duration, most: Duration, jitter: f64) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    doubled
        .min(most)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound() {
        let at = |attempt| {
            wait(
                attempt,
                Duration::from_secs(5),
                Duration::from_secs(60),
                1.0,
            )
        };
        assert_eq!(at(1), Duration::from_secs(5));
        assert_eq!(at(2), Duration::from_secs(10));
        assert_eq!(at(4), Duration::from_secs(40));
        assert_eq!(at(5), Duration::from_secs(60));
        assert_eq!(at(u32::MAX), Duration::from_secs(60));
    }

    #[test]
    fn jitter_takes_at_most_half() {
        let at = |jitter| wait(1, Duration::from_secs(4), Duration::from_secs(60), jitter);
        assert_eq!(at(0.0), Duration::from_secs(2));
        assert_eq!(at(0.5), Duration::from_secs(3));
        assert_eq!(at(9.0), Duration::from_secs(4));
    }
}
