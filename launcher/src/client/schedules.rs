use std::collections::BTreeMap;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{ApiError, Page, Reply, Session};

/// States of a message that nothing changes any more.
pub const FINAL_STATES: [&str; 7] = [
    "DELIVRD",
    "UNDELIV",
    "EXPIRED",
    "REJECTD",
    "DELETED",
    "UNKNOWN",
    "CANCELLED",
];

/// A schedule to be created.
#[derive(Debug, Clone, Serialize)]
pub struct NewSmsSchedule {
    /// RFC 3339, UTC.
    pub run_at: String,
    /// 1 to 1,600 characters.
    pub message: String,
    /// Up to 10,000 numbers.
    pub recipients: Vec<String>,
    /// What the user calls it.
    pub name: String,
}

/// A schedule.
#[derive(Debug, Clone, Deserialize)]
pub struct SmsSchedule {
    /// UUIDv7.
    pub id: String,
    /// `draft`, `scheduled`, `running`, `finished` or `cancelled`.
    pub status: String,
    /// What became of the recipients that were handed in; only in the answer to a creation.
    #[serde(flatten)]
    pub report: RecipientReport,
}

/// What became of the recipients that were handed in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RecipientReport {
    /// Distinct valid numbers.
    pub accepted: i64,
    /// Valid numbers that had been there before.
    pub duplicates: i64,
    /// Not valid numbers.
    pub rejected: i64,
}

/// How far a schedule has come.
#[derive(Debug, Clone, Deserialize)]
pub struct SmsProgress {
    /// Messages in all.
    pub total: i64,
    /// Messages by state.
    pub by_state: BTreeMap<String, i64>,
    /// RFC 3339; absent until the last message was final.
    #[serde(default)]
    pub finished_at: Option<String>,
}

impl SmsProgress {
    /// Messages that nothing changes any more.
    pub fn final_count(&self) -> i64 {
        FINAL_STATES
            .iter()
            .filter_map(|state| self.by_state.get(*state))
            .sum()
    }

    /// The states and their counts, for a person.
    pub fn summary(&self) -> String {
        let states = self.by_state.iter().filter(|(_, count)| **count > 0);
        states
            .map(|(state, count)| format!("{count} {state}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// One text to one number.
#[derive(Debug, Clone, Deserialize)]
pub struct SmsMessage {
    /// UUIDv7; the reference given to the provider.
    pub id: String,
    /// Number in E.164.
    pub to: String,
    /// Where it stands.
    pub state: String,
}

impl Session {
    /// Creates an SMS schedule.
    ///
    /// # Errors
    /// 400 with the fields that are wrong, 422 for a reused key.
    pub async fn create_sms_schedule(
        &self,
        key: &str,
        schedule: &NewSmsSchedule,
    ) -> Result<Reply<SmsSchedule>, ApiError> {
        self.api
            .call(self.keyed("/v1/sms/schedules", key, schedule))
            .await
    }

    /// How far a schedule has come.
    ///
    /// # Errors
    /// 404 when the user has no such schedule.
    pub async fn sms_progress(&self, id: &str) -> Result<SmsProgress, ApiError> {
        let path = format!("/v1/sms/schedules/{id}/progress");
        Ok(self.api.call(self.request(Method::GET, &path)).await?.body)
    }

    /// One page of the messages of a schedule.
    ///
    /// # Errors
    /// 404 when the user has no such schedule.
    pub async fn sms_messages(
        &self,
        id: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<Page<SmsMessage>, ApiError> {
        let cursor = cursor
            .map(|cursor| format!("&cursor={cursor}"))
            .unwrap_or_default();
        let path = format!("/v1/sms/schedules/{id}/messages?limit={limit}{cursor}");
        Ok(self.api.call(self.request(Method::GET, &path)).await?.body)
    }
}
