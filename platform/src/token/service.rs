//! Tokens with which services call each other when there is no user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::{ISSUER, LONGEST_TOKEN, TokenError, check_header, check_times, decode};

/// Whom service tokens are meant for (`aud`).
pub const SERVICE_AUDIENCE: &str = "coffer-internal";
/// The type of service tokens (header `typ`).
pub const SERVICE_TOKEN_TYPE: &str = "svc+jwt";
/// How long a service token is good for.
pub const SERVICE_TOKEN_LIFE: Duration = Duration::from_secs(60);

const LIFE_SECONDS: i64 = SERVICE_TOKEN_LIFE.as_secs() as i64;

/// Makes and checks service tokens (JWT, HS256) with a secret that only services hold. Cheap to clone.
#[derive(Clone)]
pub struct ServiceTokens {
    inner: Arc<Inner>,
}

struct Inner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    made: Mutex<HashMap<String, Made>>,
}

#[derive(Clone)]
struct Made {
    token: Arc<str>,
    at: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct ServiceClaims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
}

impl std::fmt::Debug for ServiceTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceTokens").finish_non_exhaustive()
    }
}

impl ServiceTokens {
    /// With the secret of `service.key`.
    pub fn new(secret: &[u8]) -> Self {
        let inner = Inner {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            made: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A token that tells that the caller is `service`, good for at least half of [`SERVICE_TOKEN_LIFE`] from `now`.
    pub fn issue(&self, service: &str, now: Timestamp) -> Arc<str> {
        let at = now.as_second();
        let mut made = self
            .inner
            .made
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = made.get(service)
            && (0..LIFE_SECONDS / 2).contains(&(at - last.at))
        {
            return Arc::clone(&last.token);
        }
        let token: Arc<str> = self.sign(service, at).into();
        made.insert(
            service.to_owned(),
            Made {
                token: Arc::clone(&token),
                at,
            },
        );
        token
    }

    fn sign(&self, service: &str, at: i64) -> String {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(SERVICE_TOKEN_TYPE.to_owned());
        let claims = ServiceClaims {
            iss: ISSUER.to_owned(),
            aud: SERVICE_AUDIENCE.to_owned(),
            sub: service.to_owned(),
            iat: at,
            exp: at + LIFE_SECONDS,
        };
        jsonwebtoken::encode(&header, &claims, &self.inner.encoding)
            .expect("HMAC takes keys of every length, and these claims are plain JSON")
    }

    /// Checks a service token at the time `now` and returns the name of the service.
    ///
    /// # Errors
    /// [`TokenError`], also for tokens that live longer than ours do.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<String, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::Invalid("too long"));
        }
        check_header(token, SERVICE_TOKEN_TYPE, Algorithm::HS256)?;
        let claims: ServiceClaims = decode(token, &self.inner.decoding, Algorithm::HS256)?;
        if claims.iss != ISSUER || claims.aud != SERVICE_AUDIENCE || claims.sub.is_empty() {
            return Err(TokenError::Invalid("not meant for this use"));
        }
        if claims.exp.saturating_sub(claims.iat) > LIFE_SECONDS {
            return Err(TokenError::Invalid("lives too long"));
        }
        check_times(claims.iat, None, claims.exp, now)?;
        Ok(claims.sub)
    }
}
