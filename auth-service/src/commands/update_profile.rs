//! Change one's own profile.

use platform::{Error, FieldViolation};
use uuid::Uuid;

use super::Commands;
use crate::domain::{Invalid, name, profile};
use crate::error::Refusal;
use crate::storage::users::{self, User};

/// Tries against changes by others at the same moment, for callers that do not care which version they overwrite.
const TRIES: usize = 5;

/// What is to change, as it came; absent fields stay as they are.
#[derive(Debug, Clone, Default)]
pub struct ProfileChange {
    /// Given name.
    pub first_name: Option<String>,
    /// Family name.
    pub last_name: Option<String>,
    /// IANA time zone.
    pub time_zone: Option<String>,
    /// BCP 47 language tag.
    pub locale: Option<String>,
    /// The version that the caller read; absent overwrites any.
    pub expected_version: Option<i64>,
}

impl Commands {
    /// Changes the profile and returns it. A change that changes nothing leaves the version as it is.
    ///
    /// # Errors
    /// `invalid_argument` naming every field that is wrong, `version_mismatch`, `account_gone`.
    pub async fn update_profile(&self, id: Uuid, change: ProfileChange) -> Result<User, Error> {
        let change = validate(change)?;
        for _ in 0..TRIES {
            let unit = self.work.begin().await?;
            let old = users::by_id(unit.tx(), id)
                .await?
                .ok_or(Refusal::AccountGone)?;
            if change
                .expected_version
                .is_some_and(|expected| expected != old.version)
            {
                return Err(Refusal::VersionMismatch.into());
            }
            let new = apply(old.clone(), &change);
            if new == old {
                return Ok(old);
            }
            if users::save_profile(unit.tx(), &new, unit.now()).await? {
                unit.commit().await?;
                return Ok(User {
                    version: new.version + 1,
                    ..new
                });
            }
        }
        Err(Refusal::VersionMismatch.into())
    }
}

fn apply(mut user: User, change: &ProfileChange) -> User {
    let set = |field: &mut String, new: &Option<String>| {
        if let Some(new) = new {
            field.clone_from(new);
        }
    };
    set(&mut user.first_name, &change.first_name);
    set(&mut user.last_name, &change.last_name);
    set(&mut user.time_zone, &change.time_zone);
    set(&mut user.locale, &change.locale);
    user.name_search = name::searchable(&user.first_name, &user.last_name);
    user.last_name_search = name::fold(&user.last_name);
    user
}

fn validate(change: ProfileChange) -> Result<ProfileChange, Error> {
    let mut violations = Vec::new();
    let mut read =
        |field: &str, value: Option<String>, parse: fn(&str) -> Result<String, Invalid>| {
            value.map(|text| {
                parse(&text).unwrap_or_else(|invalid| {
                    violations.push(FieldViolation::new(field, invalid.0));
                    String::new()
                })
            })
        };
    let valid = ProfileChange {
        first_name: read("first_name", change.first_name, name::parse),
        last_name: read("last_name", change.last_name, name::parse),
        time_zone: read("time_zone", change.time_zone, profile::parse_time_zone),
        locale: read("locale", change.locale, profile::parse_locale),
        expected_version: change.expected_version,
    };
    if violations.is_empty() {
        Ok(valid)
    } else {
        Err(Error::invalid(violations))
    }
}
