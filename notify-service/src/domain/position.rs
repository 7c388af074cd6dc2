//! Where in a numbered stream a reader stands.

/// The numbers that a user's stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of the newest event; 0 when there was none yet.
    pub(crate) head: i64,
    /// Number of the oldest event that is kept; `head + 1` when none is.
    pub(crate) first_kept: i64,
}

impl Default for Extent {
    /// The extent of a stream that nothing was written to.
    fn default() -> Self {
        Self {
            head: 0,
            first_kept: 1,
        }
    }
}

/// Why a position cannot be read from or acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PositionError {
    /// Events after it are no longer kept, so that going on would leave a gap.
    #[error("events after {after} are no longer kept; the first kept is {first_kept}")]
    Lost { after: i64, first_kept: i64 },
    /// It is ahead of the newest event.
    #[error("{position} is ahead of the newest event, {head}")]
    Ahead { position: i64, head: i64 },
    /// It is less than 0.
    #[error("must not be negative")]
    Negative,
}

impl Extent {
    /// The number after which a reader goes on. `asked` is what the reader said it has; without it, what its device
    /// `acknowledged` last. 0, and a device that never acknowledged, mean: from the first that is kept.
    pub(crate) fn start(
        self,
        asked: Option<i64>,
        acknowledged: Option<i64>,
    ) -> Result<i64, PositionError> {
        let after = asked.or(acknowledged).unwrap_or(0);
        self.check(after)?;
        if after == 0 {
            return Ok(self.first_kept - 1);
        }
        if after + 1 < self.first_kept {
            return Err(PositionError::Lost {
                after,
                first_kept: self.first_kept,
            });
        }
        Ok(after)
    }

    /// Whether `position` is one that a reader of this stream can have come to.
    pub(crate) fn check(self, position: i64) -> Result<(), PositionError> {
        if position < 0 {
            return Err(PositionError::Negative);
        }
        if position > self.head {
            return Err(PositionError::Ahead {
                position,
                head: self.head,
            });
        }
        Ok(())
    }

    /// The first number to keep so that at most `most` remain and everything up to `expired` goes, in steps of at most
    /// `step` events; `None` when nothing is to be removed. Never more than is there.
    pub(crate) fn trimmed(self, most: i64, expired: i64, step: i64) -> Option<i64> {
        let wanted = (self.head - most + 1).max(expired + 1).min(self.head + 1);
        let first = wanted.min(self.first_kept + step);
        (first > self.first_kept).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEPT: Extent = Extent {
        head: 45,
        first_kept: 11,
    };

    #[test]
    fn a_reader_goes_on_where_it_said() {
        assert_eq!(KEPT.start(Some(41), Some(20)), Ok(41));
        assert_eq!(KEPT.start(None, Some(20)), Ok(20));
        assert_eq!(KEPT.start(Some(45), None), Ok(45));
        assert_eq!(KEPT.start(Some(10), None), Ok(10));
    }

    #[test]
    fn zero_and_a_new_device_start_at_the_first_kept() {
        assert_eq!(KEPT.start(Some(0), Some(20)), Ok(10));
        assert_eq!(KEPT.start(None, None), Ok(10));
        assert_eq!(Extent::default().start(None, None), Ok(0));
    }

    #[test]
    fn a_position_that_would_leave_a_gap_is_refused() {
        let lost = PositionError::Lost {
            after: 9,
            first_kept: 11,
        };
        assert_eq!(KEPT.start(Some(9), None), Err(lost));
        assert_eq!(KEPT.start(None, Some(9)), Err(lost));
        assert_eq!(
            KEPT.start(Some(46), None),
            Err(PositionError::Ahead {
                position: 46,
                head: 45
            })
        );
        assert_eq!(
            KEPT.start(Some(i64::MIN), None),
            Err(PositionError::Negative)
        );
    }

    proptest! {
        #[test]
        fn what_a_reader_is_given_is_exactly_what_it_lacks(
            head in 0_i64..500, trimmed in 0_i64..500, asked in proptest::option::of(0_i64..600),
        ) {
            let extent = Extent { head, first_kept: trimmed.min(head) + 1 };
            match extent.start(asked, None) {
                Ok(after) => {
                    // Everything from the next number to the head is still there.
                    prop_assert!(after + 1 >= extent.first_kept && after <= head);
                    if let Some(asked) = asked.filter(|asked| *asked > 0) {
                        prop_assert_eq!(after, asked);
                    }
                }
                Err(PositionError::Lost { .. }) => {
                    prop_assert!(asked.unwrap_or(0) + 1 < extent.first_kept);
                }
                Err(PositionError::Ahead { .. }) => prop_assert!(asked.unwrap_or(0) > head),
                Err(PositionError::Negative) => prop_assert!(false),
            }
        }

        #[test]
        fn trimming_by_steps_ends_at_the_bound(
            head in 0_i64..500, most in 1_i64..100, expired in 0_i64..600, step in 1_i64..50,
        ) {
            let mut extent = Extent { head, first_kept: 1 };
            while let Some(first) = extent.trimmed(most, expired, step) {
                prop_assert!(first - extent.first_kept <= step && first > extent.first_kept);
                extent.first_kept = first;
            }
            prop_assert!(head - extent.first_kept < most);
            prop_assert!(extent.first_kept <= head + 1);
            prop_assert!(extent.first_kept > expired.min(head));
        }
    }
}
