//! Register: an unverified user, and the mail that confirms the address.

use std::time::Duration;

use jiff::Timestamp;
use platform::time::to_micros;
use platform::token::Role;
use platform::work::UnitOfWork;
use platform::{Error, FieldViolation, email, id};
use uuid::Uuid;

use super::throttle::{self, Subject};
use super::{Client, Commands};
use crate::domain::handle::Handle;
use crate::domain::session::later;
use crate::domain::throttle::address_block;
use crate::domain::token::Opaque;
use crate::domain::{name, password};
use crate::error::Refusal;
use crate::events::{self, Mail};
use crate::storage::email_tokens;
use crate::storage::email_tokens::EmailToken;
use crate::storage::users::{self, User};

/// Handles drawn before giving up. With a million users one draw in 600 is taken.
const DRAWS: usize = 16;
/// The note to the owner of a taken address is worth sending for this long.
const NOTICE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// What a person registers with, as it came.
pub struct Register {
    /// Given name.
    pub first_name: String,
    /// Family name.
    pub last_name: String,
    /// Address.
    pub email: String,
    /// Password in the clear.
    pub password: String,
    /// Where it came from.
    pub client: Client,
}

struct Valid {
    first_name: String,
    last_name: String,
    email: String,
    email_normalised: String,
}

impl Commands {
    /// Registers a person.
    ///
    /// # Errors
    /// `invalid_argument` naming every field that is wrong, `email_taken`, `too_many_attempts`, `overloaded`.
    pub async fn register(&self, request: Register) -> Result<User, Error> {
        let valid = validate(&request)?;
        let brake = [Subject {
            name: format!("register/{}", address_block(&request.client.ip)),
            allowance: self
                .config
                .throttle
                .allow(self.config.throttle.register_per_block),
        }];
        throttle::ask(self.work.db().reader(), &brake, self.work.now()).await?;
        // Before anything is looked up, so that a taken address takes no less time than a free one.
        let password_hash = self.hasher.hash(request.password).await?;

        let mut unit = self.work.begin().await?;
        throttle::ask(unit.tx(), &brake, unit.now()).await?;
        let user = self.new_user(valid, password_hash, unit.now());
        if let Some(user) = insert_with_free_handle(&unit, user.clone()).await? {
            events::user_registered(&mut unit, &self.keys, &user);
            self.request_verification(&mut unit, &user).await?;
            unit.commit().await?;
            return Ok(user);
        }
        let now = unit.now();
        throttle::count(unit.tx(), &brake, now).await?;
        self.tell_owner(&mut unit, &user.email_normalised).await?;
        unit.commit().await?;
        Err(Refusal::EmailTaken.into())
    }

    fn new_user(&self, valid: Valid, password_hash: String, now: Timestamp) -> User {
        User {
            id: id::new(now),
            handle: String::new(),
            name_search: name::searchable(&valid.first_name, &valid.last_name),
            last_name_search: name::fold(&valid.last_name),
            first_name: valid.first_name,
            last_name: valid.last_name,
            email: valid.email,
            email_normalised: valid.email_normalised,
            email_verified: false,
            role: Role::User.to_string(),
            password_hash,
            time_zone: self.config.profile.time_zone.clone(),
            locale: self.config.profile.locale.clone(),
            version: 1,
            grants_version: 1,
            verification_mail_at: Some(to_micros(now)),
            notice_at: None,
            created_at: to_micros(now),
            updated_at: to_micros(now),
        }
    }

    /// Makes a verification token and asks for the mail that carries it.
    pub(super) async fn request_verification(
        &self,
        unit: &mut UnitOfWork,
        user: &User,
    ) -> Result<(), Error> {
        let hours = u64::from(self.config.mail.verification_hours);
        let expires_at = later(unit.now(), Duration::from_secs(hours * 60 * 60));
        let token = Opaque::new(rand::random());
        let row = EmailToken {
            hash: token.hash,
            user_id: user.id,
            email_normalised: user.email_normalised.clone(),
            created_at: to_micros(unit.now()),
            expires_at: to_micros(expires_at),
        };
        email_tokens::insert(unit.tx(), row).await?;
        let mail = Mail::VerifyEmail { token: &token.text };
        events::mail_requested(unit, &self.keys, user, mail, expires_at);
        Ok(())
    }

    /// Tells the owner of an address, now and then, that somebody registers with it.
    async fn tell_owner(&self, unit: &mut UnitOfWork, email: &str) -> Result<(), Error> {
        let now = unit.now();
        let pause = Duration::from_secs(u64::from(self.config.mail.notice_pause_s));
        let since = now.checked_sub(pause).unwrap_or(Timestamp::MIN);
        let Some(owner) = users::by_email(unit.tx(), email).await? else {
            return Ok(());
        };
        if users::claim_notice(unit.tx(), owner.id, since, now).await? {
            let worth_until = later(now, NOTICE_LIFE);
            events::mail_requested(unit, &self.keys, &owner, Mail::RegisterAttempt, worth_until);
        }
        Ok(())
    }
}

fn validate(request: &Register) -> Result<Valid, Error> {
    let mut violations = Vec::new();
    let mut keep = |field: &str, outcome: Result<String, FieldViolation>| {
        outcome.unwrap_or_else(|mut violation| {
            field.clone_into(&mut violation.field);
            violations.push(violation);
            String::new()
        })
    };
    let plain = |invalid: crate::domain::Invalid| FieldViolation::new("", invalid.0);
    let first_name = keep(
        "first_name",
        name::parse(&request.first_name).map_err(plain),
    );
    let last_name = keep("last_name", name::parse(&request.last_name).map_err(plain));
    let address = keep("email", email::validate("email", &request.email));
    let email_normalised = email::normalise(&address);
    let judged = password::check(&request.password, &email_normalised);
    keep("password", judged.map(|()| String::new()).map_err(plain));
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    Ok(Valid {
        first_name,
        last_name,
        email: address,
        email_normalised,
    })
}

/// Inserts the user under a handle that nobody has; `None` when the address is taken.
async fn insert_with_free_handle(unit: &UnitOfWork, mut user: User) -> Result<Option<User>, Error> {
    for _ in 0..DRAWS {
        user.handle = Handle::draw(rand::random()).as_str().to_owned();
        if users::insert(unit.tx(), user.clone()).await? {
            return Ok(Some(user));
        }
        if users::by_email(unit.tx(), &user.email_normalised)
            .await?
            .is_some()
        {
            return Ok(None);
        }
    }
    let id: Uuid = user.id;
    Err(Error::internal(anyhow::anyhow!(
        "no free handle in {DRAWS} draws for {id}"
    )))
}
