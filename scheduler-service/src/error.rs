//! What a caller gets when the scheduler does not do what it was asked.

use platform::Error;

use crate::csv::CsvError;
use crate::domain::Refusal;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let reason = match refusal {
            Refusal::Started => "schedule_started",
            Refusal::Finished => "schedule_finished",
        };
        Self::conflict(reason, refusal.to_string())
    }
}

impl From<CsvError> for Error {
    fn from(error: CsvError) -> Self {
        Self::invalid_field("csv", error.to_string())
    }
}

/// The day's quota does not allow as many recipients.
pub(crate) fn quota_exceeded(limit: u64) -> Error {
    Error::conflict(
        "daily_recipient_quota_exceeded",
        format!("at most {limit} recipients may be put into schedules a day"),
    )
}

/// The stream ended without the word that everything had come.
pub(crate) fn upload_incomplete() -> Error {
    Error::conflict(
        "upload_incomplete",
        "the upload broke off before its end and nothing of it was taken; send it again",
    )
}

/// The upload was given up before it ended.
pub(crate) fn upload_expired() -> Error {
    Error::conflict(
        "upload_expired",
        "the upload took too long and was given up; send it again",
    )
}
