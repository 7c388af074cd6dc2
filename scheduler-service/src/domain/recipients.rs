//! What became of the recipients that somebody handed in.

use super::phone::{MAX_INPUT_CHARS, Phone, Reject};

/// Most rejected recipients that are told one by one.
pub const MAX_TOLD: usize = 100;

/// A recipient that was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Line of the file or position in the list, from 1.
    pub line: u64,
    /// What stood there, cut to 64 characters.
    pub value: String,
    /// Why.
    pub reason: Reject,
}

/// Counts of recipients taken and not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Distinct valid numbers.
    pub accepted: u64,
    /// Valid numbers that had been there before.
    pub duplicates: u64,
    /// Not valid numbers.
    pub rejected: u64,
    /// The first of the rejected.
    pub first_rejects: Vec<Rejected>,
}

impl Report {
    /// Notes a recipient that was not taken.
    pub fn reject(&mut self, line: u64, value: &str, reason: Reject) {
        self.rejected += 1;
        if self.first_rejects.len() < MAX_TOLD {
            let value = value.chars().take(MAX_INPUT_CHARS).collect();
            self.first_rejects.push(Rejected {
                line,
                value,
                reason,
            });
        }
    }

    /// Notes one reading of a number, and gives the number if it is one.
    pub fn sort(&mut self, line: u64, value: &str, read: Result<Phone, Reject>) -> Option<Phone> {
        read.map_err(|reason| self.reject(line, value, reason)).ok()
    }

    /// Rows seen so far that were not taken.
    pub fn rows(&self) -> u64 {
        self.accepted + self.duplicates + self.rejected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_rejects_are_kept_and_they_are_cut() {
        let mut report = Report::default();
        for line in 1..=150 {
            report.reject(line, &"é".repeat(80), Reject::TooLong);
        }
        assert_eq!(report.rejected, 150);
        assert_eq!(report.first_rejects.len(), MAX_TOLD);
        assert_eq!(report.first_rejects[99].line, 100);
        assert_eq!(report.first_rejects[0].value.chars().count(), 64);
    }
}
