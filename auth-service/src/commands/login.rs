//! Sign in: a password becomes a session.

use platform::time::to_micros;
use platform::work::UnitOfWork;
use platform::{Error, FieldViolation, email, id};

use super::throttle::{self, Subject};
use super::{Client, Commands, SignedIn};
use crate::domain::{name, throttle::address};
use crate::error::Refusal;
use crate::hashing::Checked;
use crate::storage::sessions::{self, Session};
use crate::storage::users::{self, User};

/// What a person signs in with, as it came.
pub struct Login {
    /// Address.
    pub email: String,
    /// Password in the clear.
    pub password: String,
    /// Whether the session is to last longer.
    pub remember_me: bool,
    /// What the user calls the device; may be empty.
    pub device_name: String,
    /// Where it came from.
    pub client: Client,
}

impl Commands {
    /// Checks a password and opens a session.
    ///
    /// An unknown address and a wrong password take the same way: one look-up, one hash, one counted failure.
    ///
    /// # Errors
    /// `invalid_credentials`, `too_many_attempts`, `overloaded`; `invalid_argument` naming the fields that are wrong.
    pub async fn login(&self, request: Login) -> Result<SignedIn, Error> {
        let device_name = validate(&request)?;
        let email = email::normalise(&request.email);
        let brake = self.sign_in_brake(&email, &request.client);
        throttle::ask(self.work.db().reader(), &brake, self.work.now()).await?;

        let known = users::by_email(self.work.db().reader(), &email).await?;
        let stored = known.as_ref().map(|user| user.password_hash.clone());
        let checked = self.hasher.check(request.password.clone(), stored).await?;
        let (Some(user), Checked::Right { outdated }) = (known, checked) else {
            let unit = self.work.begin().await?;
            let now = unit.now();
            throttle::count(unit.tx(), &brake, now).await?;
            unit.commit().await?;
            return Err(Refusal::InvalidCredentials.into());
        };
        let rehashed = if outdated {
            Some(self.hasher.hash(request.password).await?)
        } else {
            None
        };

        let unit = self.work.begin().await?;
        // Asked again: a right guess among many wrong ones at the same time must not pass.
        throttle::ask(unit.tx(), &brake, unit.now()).await?;
        // Read again: the password may have been changed while it was checked.
        let current = users::by_id(unit.tx(), user.id).await?;
        let Some(user) = current.filter(|now| now.password_hash == user.password_hash) else {
            return Err(Refusal::InvalidCredentials.into());
        };
        if let Some(new) = rehashed {
            users::replace_hash(unit.tx(), user.id, &user.password_hash, new).await?;
        }
        let signed_in = self
            .open_session(
                &unit,
                user,
                device_name,
                request.remember_me,
                request.client,
            )
            .await?;
        unit.commit().await?;
        Ok(signed_in)
    }

    async fn open_session(
        &self,
        unit: &UnitOfWork,
        user: User,
        device_name: String,
        remembered: bool,
        client: Client,
    ) -> Result<SignedIn, Error> {
        let now = unit.now();
        let expires_at = self
            .config
            .session
            .lifetimes()
            .refresh_expiry(remembered, now, now);
        let session = Session {
            id: id::new(now),
            user_id: user.id,
            device_name,
            ip: client.ip,
            user_agent: client.user_agent,
            remembered,
            created_at: to_micros(now),
            last_seen_at: to_micros(now),
            expires_at: to_micros(expires_at),
            ended_at: None,
            end_reason: None,
        };
        let id = session.id;
        sessions::insert(unit.tx(), session).await?;
        let tokens = self.issue(unit, &user, id, expires_at).await?;
        Ok(SignedIn { tokens, user })
    }

    /// Failures count for the account as seen from one address, so that nobody can lock its owner out from elsewhere,
    /// and for the address. In the order of their names, as counting wants them.
    fn sign_in_brake(&self, email: &str, client: &Client) -> [Subject; 2] {
        let throttle = &self.config.throttle;
        let from = address(&client.ip);
        let account = self.keys.email_hash(email);
        [
            Subject {
                name: format!("sign_in/account/{}/{from}", hex::encode(account)),
                allowance: throttle.allow(throttle.sign_in_per_account),
            },
            Subject {
                name: format!("sign_in/address/{from}"),
                allowance: throttle.allow(throttle.sign_in_per_address),
            },
        ]
    }
}

/// Only what no user could ever have sent right is told; anything else is just wrong.
fn validate(request: &Login) -> Result<String, Error> {
    let mut violations = Vec::new();
    if let Err(violation) = email::validate("email", &request.email) {
        violations.push(violation);
    }
    if request.password.is_empty() {
        violations.push(FieldViolation::new("password", "is missing"));
    }
    let device_name = name::parse_device(&request.device_name).unwrap_or_else(|invalid| {
        violations.push(FieldViolation::new("device_name", invalid.0));
        String::new()
    });
    if violations.is_empty() {
        Ok(device_name)
    } else {
        Err(Error::invalid(violations))
    }
}
