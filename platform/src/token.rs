//! Access tokens (JWT, EdDSA) and how they are checked. How they are made is auth-service's business.
//!
//! Tokens with which services call each other ([`ServiceTokens`]) are of another type, signed in another way and meant
//! for another audience; neither check ever accepts a token of the other kind.

mod service;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{Error, Kind};

pub use crate::principal::Role;
pub use service::{SERVICE_AUDIENCE, SERVICE_TOKEN_LIFE, SERVICE_TOKEN_TYPE, ServiceTokens};

/// Who makes the tokens (`iss`).
pub const ISSUER: &str = "coffer";
/// Whom access tokens are meant for (`aud`).
pub const AUDIENCE: &str = "coffer-api";
/// The type of access tokens (header `typ`, RFC 9068).
pub const ACCESS_TOKEN_TYPE: &str = "at+jwt";
/// How long an access token is good for.
pub const ACCESS_TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);
/// How far the clocks of two machines may differ, in seconds.
pub const CLOCK_SKEW_SECONDS: i64 = 60;

/// No token of ours is nearly as long, in bytes; longer ones are refused unread.
const LONGEST_TOKEN: usize = 4096;
/// Verified tokens that are remembered.
const CACHE_ENTRIES: u64 = 100_000;

/// What an access token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Always [`ISSUER`].
    pub iss: String,
    /// Always [`AUDIENCE`].
    pub aud: String,
    /// The user.
    pub sub: Uuid,
    /// The session.
    pub sid: Uuid,
    /// What the user may do, roughly.
    pub role: Role,
    /// Whether the user's address was confirmed.
    pub email_verified: bool,
    /// Version of the user's grants.
    pub gv: i64,
    /// When the token was made, in unix seconds.
    pub iat: i64,
    /// When the token expires, in unix seconds.
    pub exp: i64,
    /// When the token begins to count, in unix seconds, if later than `iat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// The token itself.
    pub jti: Uuid,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is forged, damaged, or not meant for this use.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
    /// It was signed with a key that is not known here; perhaps not yet.
    #[error("the token was signed with an unknown key")]
    UnknownKey,
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// No key is known here yet, so nothing can be said about it.
    #[error("no key is known yet")]
    NoKeys,
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid(_) | TokenError::UnknownKey => Self::new(
                Kind::Unauthenticated,
                "token_invalid",
                "the token is not valid",
            ),
            TokenError::Expired => Self::new(
                Kind::Unauthenticated,
                "token_expired",
                "the token has expired",
            ),
            TokenError::NoKeys => Self::unavailable(
                "identity_unavailable",
                "tokens cannot be checked at the moment",
            )
            .with_retry_after(Duration::from_secs(1)),
        }
    }
}

/// The public keys that access tokens are checked with, and the tokens that were checked. Cheap to clone.
#[derive(Clone)]
pub struct KeySet {
    inner: Arc<Inner>,
}

struct Inner {
    keys: RwLock<HashMap<String, Key>>,
    verified: moka::sync::Cache<[u8; 32], Arc<Claims>>,
    unknown_key: Notify,
}

struct Key {
    public: String,
    decoding: DecodingKey,
}

impl Default for KeySet {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySet")
            .field("key_ids", &self.key_ids())
            .finish_non_exhaustive()
    }
}

impl KeySet {
    /// No keys yet.
    pub fn new() -> Self {
        let verified = moka::sync::Cache::builder()
            .max_capacity(CACHE_ENTRIES)
            // The claims decide; this only empties the cache of a process that is asked no more.
            .time_to_live(ACCESS_TOKEN_LIFE)
            .build();
        let inner = Inner {
            keys: RwLock::default(),
            verified,
            unknown_key: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Replaces the keys with the Ed25519 signing keys of a JSON Web Key Set (RFC 7517, RFC 8037). Keys of other
    /// kinds are passed over.
    ///
    /// # Errors
    /// When the text is no key set or holds no usable key; then the keys stay as they were.
    pub fn update_from_jwks(&self, jwks: &str) -> anyhow::Result<()> {
        let new = read_jwks(jwks)?;
        let mut keys = self
            .inner
            .keys
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let withdrawn = keys
            .iter()
            .any(|(id, old)| new.get(id).is_none_or(|key| key.public != old.public));
        *keys = new;
        drop(keys);
        if withdrawn {
            self.inner.verified.invalidate_all();
        }
        Ok(())
    }

    /// Ids of the known keys, sorted.
    pub fn key_ids(&self) -> Vec<String> {
        let keys = self
            .inner
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<_> = keys.keys().cloned().collect();
        ids.sort();
        ids
    }

    /// Checks an access token at the time `now`.
    ///
    /// Signatures are checked once per token and remembered; times are checked always.
    ///
    /// # Errors
    /// [`TokenError`]; an unknown key also wakes [`KeySet::unknown_key_seen`].
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::Invalid("too long"));
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.inner.verified.get(&hash) {
            if let Err(error) = check_times(claims.iat, claims.nbf, claims.exp, now) {
                self.inner.verified.invalidate(&hash);
                return Err(error);
            }
            return Ok((*claims).clone());
        }
        let claims = self.verify_signature(token)?;
        check_times(claims.iat, claims.nbf, claims.exp, now)?;
        self.inner.verified.insert(hash, Arc::new(claims.clone()));
        Ok(claims)
    }

    /// Returns when a token came that was signed with an unknown key: it may be a new one.
    pub async fn unknown_key_seen(&self) {
        self.inner.unknown_key.notified().await;
    }

    fn verify_signature(&self, token: &str) -> Result<Claims, TokenError> {
        let header = check_header(token, ACCESS_TOKEN_TYPE, Algorithm::EdDSA)?;
        let id = header.kid.ok_or(TokenError::Invalid("no key id"))?;
        let claims: Claims = {
            let keys = self
                .inner
                .keys
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            if keys.is_empty() {
                return Err(TokenError::NoKeys);
            }
            let Some(key) = keys.get(&id) else {
                self.inner.unknown_key.notify_one();
                return Err(TokenError::UnknownKey);
            };
            decode(token, &key.decoding, Algorithm::EdDSA)?
        };
        if claims.iss != ISSUER {
            return Err(TokenError::Invalid("wrong issuer"));
        }
        if claims.aud != AUDIENCE {
            return Err(TokenError::Invalid("wrong audience"));
        }
        Ok(claims)
    }
}

fn read_jwks(jwks: &str) -> anyhow::Result<HashMap<String, Key>> {
    #[derive(Deserialize)]
    struct JwkSet {
        keys: Vec<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Jwk {
        kty: String,
        crv: String,
        kid: String,
        x: String,
        alg: Option<String>,
        #[serde(rename = "use")]
        usage: Option<String>,
    }
    let set: JwkSet = serde_json::from_str(jwks)?;
    let mut keys = HashMap::new();
    for value in set.keys {
        let Ok(jwk) = serde_json::from_value::<Jwk>(value) else {
            continue;
        };
        let fits = jwk.kty == "OKP"
            && jwk.crv == "Ed25519"
            && jwk.alg.is_none_or(|alg| alg == "EdDSA" || alg == "Ed25519")
            && jwk.usage.is_none_or(|usage| usage == "sig");
        if fits && is_sound(&jwk.x) {
            let decoding = DecodingKey::from_ed_components(&jwk.x)?;
            keys.insert(
                jwk.kid,
                Key {
                    public: jwk.x,
                    decoding,
                },
            );
        }
    }
    anyhow::ensure!(!keys.is_empty(), "the key set holds no usable Ed25519 key");
    Ok(keys)
}

/// Whether the key is a point that can verify anything, and not one that verifies everything.
fn is_sound(x: &str) -> bool {
    use base64::Engine;
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(x);
    let Ok(Ok(bytes)) = decoded.map(<[u8; 32]>::try_from) else {
        return false;
    };
    ed25519_dalek::VerifyingKey::from_bytes(&bytes).is_ok_and(|key| !key.is_weak())
}

/// Reads the header and refuses every type and algorithm but the wanted one. Keys and addresses of keys that a header
/// may carry are ignored.
fn check_header(
    token: &str,
    wanted_type: &str,
    wanted_algorithm: Algorithm,
) -> Result<jsonwebtoken::Header, TokenError> {
    let header =
        jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid("malformed"))?;
    if header.alg != wanted_algorithm {
        return Err(TokenError::Invalid("wrong algorithm"));
    }
    if header.typ.as_deref() != Some(wanted_type) {
        return Err(TokenError::Invalid("wrong type"));
    }
    if header.crit.is_some() {
        return Err(TokenError::Invalid("unknown critical header"));
    }
    Ok(header)
}

/// Checks the signature and reads the claims. Times, issuer and audience are left to the caller, who has a clock.
fn decode<T: serde::de::DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<T, TokenError> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(token, key, &validation)
        .map(|data| data.claims)
        .map_err(|_| TokenError::Invalid("wrong signature or claims"))
}

fn check_times(iat: i64, nbf: Option<i64>, exp: i64, now: Timestamp) -> Result<(), TokenError> {
    let now = now.as_second();
    if now >= exp {
        return Err(TokenError::Expired);
    }
    let latest = now.saturating_add(CLOCK_SKEW_SECONDS);
    if iat > latest || nbf.is_some_and(|nbf| nbf > latest) {
        return Err(TokenError::Invalid("from the future"));
    }
    Ok(())
}

/// The type that an unverified token claims to be of; only good for choosing the check that it must pass.
pub(crate) fn claimed_type(token: &str) -> Option<String> {
    if token.len() > LONGEST_TOKEN {
        return None;
    }
    jsonwebtoken::decode_header(token).ok()?.typ
}

#[cfg(test)]
mod tests;
