//! The Ed25519 keys that sign access tokens.
//!
//! Each key is a file `signing-<kid>.pem` (PKCS#8) beside the other secrets; its `kid` is its RFC 7638 thumbprint. All
//! are published, the newest signs: a new key is thus taken into use by putting it there and starting again, and an old
//! one is retired by removing it once the last token that it signed has expired.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use platform::Error;
use platform::keys::{Keys, is_missing};
use platform::token::Claims;
use sha2::{Digest, Sha256};

/// Before the PEM block: when the key was made. Copying a file does not change it, as it would the file's own time.
const CREATED: &str = "Created: ";

/// Signs access tokens with the newest key and publishes the public halves of all.
pub struct Signer {
    header: Header,
    key: EncodingKey,
    jwks: String,
}

struct Stored {
    kid: String,
    created: Timestamp,
    key: SigningKey,
}

impl Signer {
    /// Loads the keys; makes the first one when there is none and secrets may be made there.
    ///
    /// # Errors
    /// When a key cannot be read, is damaged, or does not belong to the name of its file; when there is none and none
    /// may be made.
    pub fn load_or_create(keys: &Keys, now: Timestamp) -> anyhow::Result<Self> {
        let mut stored = match keys.may_create() {
            true => load_or_make(keys, now)?,
            false => load(keys)?,
        };
        stored.sort_by(|a, b| (b.created, &b.kid).cmp(&(a.created, &a.kid)));
        let jwks = serde_json::json!({
            "keys": stored.iter().map(|one| jwk(&one.kid, &one.key)).collect::<Vec<_>>()
        });
        let newest = stored
            .first()
            .with_context(|| is_missing(keys.dir(), &file_name("*")))?;
        let der = newest
            .key
            .to_pkcs8_der()
            .map_err(|error| anyhow::anyhow!("signing key {}: {error}", newest.kid))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(newest.kid.clone());
        Ok(Self {
            header,
            key: EncodingKey::from_ed_der(der.as_bytes()),
            jwks: jwks.to_string(),
        })
    }

    /// Signs an access token.
    ///
    /// # Errors
    /// `internal` when signing fails.
    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key).map_err(Error::internal)
    }

    /// The public halves as a JSON Web Key Set, ready to serve.
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

/// Makes a key beside the other secrets; it signs once auth-service has started again. Returns the name of its file.
///
/// # Errors
/// When the file cannot be made.
pub fn create_key(keys: &Keys, now: Timestamp) -> anyhow::Result<String> {
    Ok(file_name(&create(keys, now)?.kid))
}

/// Whether there are keys beside the other secrets of a folder.
///
/// # Errors
/// When the folder cannot be listed.
pub fn has_keys(dir: &Path) -> anyhow::Result<bool> {
    Ok(!names(dir)?.is_empty())
}

/// Loads the keys, or makes the first one.
fn load_or_make(keys: &Keys, now: Timestamp) -> anyhow::Result<Vec<Stored>> {
    // Held while looking and making, so that two that start at once do not make two first keys.
    let lock_path = keys.dir().join("signing.lock");
    let lock = fs::File::create(&lock_path)
        .and_then(|file| file.lock().map(|()| file))
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;
    let mut stored = load(keys)?;
    if stored.is_empty() {
        stored.push(create(keys, now)?);
        tracing::info!(key.id = stored[0].kid, "made the first signing key");
    }
    drop(lock);
    Ok(stored)
}

fn load(keys: &Keys) -> anyhow::Result<Vec<Stored>> {
    let mut stored = Vec::new();
    for kid in names(keys.dir())? {
        let name = file_name(&kid);
        // A file that goes at this moment was retired.
        if let Some(text) = keys.load_file(&name)? {
            let key = read(&text, &kid);
            stored.push(key.with_context(|| describe(keys.dir(), &name))?);
        }
    }
    Ok(stored)
}

/// The ids of the keys that have a file.
fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut kids = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let name = entry?.file_name();
        if let Some(kid) = name.to_str().and_then(kid_of) {
            kids.push(kid.to_owned());
        }
    }
    Ok(kids)
}

fn create(keys: &Keys, now: Timestamp) -> anyhow::Result<Stored> {
    let key = SigningKey::from_bytes(&rand::random::<[u8; 32]>());
    let kid = thumbprint(&key);
    let pem = key
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| anyhow::anyhow!("cannot write a signing key: {error}"))?;
    let text = format!("{CREATED}{now}\n{}", pem.as_str());
    keys.load_or_create_file(&file_name(&kid), || text.into_bytes())?;
    Ok(Stored {
        kid,
        created: now,
        key,
    })
}

fn read(content: &[u8], kid: &str) -> anyhow::Result<Stored> {
    let text = std::str::from_utf8(content).context("is not text")?;
    let start = text.find("-----BEGIN").context("holds no PEM block")?;
    let key = SigningKey::from_pkcs8_pem(text[start..].trim_end())
        .map_err(|error| anyhow::anyhow!("is not an Ed25519 key in PKCS#8: {error}"))?;
    ensure!(
        thumbprint(&key) == kid,
        "holds another key than its name says"
    );
    let created = text[..start]
        .lines()
        .find_map(|line| line.strip_prefix(CREATED)?.trim().parse().ok())
        .unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(Stored {
        kid: kid.to_owned(),
        created,
        key,
    })
}

fn file_name(kid: &str) -> String {
    format!("signing-{kid}.pem")
}

fn kid_of(file_name: &str) -> Option<&str> {
    file_name.strip_prefix("signing-")?.strip_suffix(".pem")
}

fn describe(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

fn public_text(key: &SigningKey) -> String {
    URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes())
}

fn jwk(kid: &str, key: &SigningKey) -> serde_json::Value {
    serde_json::json!({
        "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
        "kid": kid, "x": public_text(key),
    })
}

/// RFC 7638: the hash of the required members in the order of the alphabet, without white space.
fn thumbprint(key: &SigningKey) -> String {
    let members = format!(
        r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
        public_text(key)
    );
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn kids(signer: &Signer) -> Vec<String> {
        let set: serde_json::Value = serde_json::from_str(signer.jwks()).unwrap();
        let keys = set["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let secret: [u8; 32] = URL_SAFE_NO_PAD.decode(d).unwrap().try_into().unwrap();
        let key = SigningKey::from_bytes(&secret);
        assert_eq!(public_text(&key), x);
        assert_eq!(
            thumbprint(&key),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn keys_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let first = Signer::load_or_create(&keys, at(0)).unwrap();
        let second = Signer::load_or_create(&keys, at(9)).unwrap();
        assert_eq!(first.jwks(), second.jwks());
        assert_eq!(kids(&first).len(), 1);
    }

    #[test]
    fn two_that_start_at_once_share_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let sets: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                Signer::load_or_create(&keys, at(0))
                    .unwrap()
                    .jwks()
                    .to_owned()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(sets.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn the_newest_key_signs_and_all_are_published() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let old = create(&keys, at(0)).unwrap().kid;
        let new = create(&keys, at(60)).unwrap().kid;
        let signer = Signer::load_or_create(&keys, at(99)).unwrap();
        assert_eq!(signer.header.kid.as_ref(), Some(&new));
        assert_eq!(kids(&signer), [new, old]);
    }

    #[test]
    fn where_nothing_may_be_made_no_key_is_invented_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let all = Keys::create(dir.path()).unwrap();
        let keys = Keys::load(dir.path()).unwrap();
        let error = Signer::load_or_create(&keys, at(0)).err().unwrap();
        let error = format!("{error:#}");
        assert!(
            error.contains("signing-*.pem is missing") && error.contains("coffer keys create"),
            "{error}"
        );
        assert!(!has_keys(dir.path()).unwrap());
        assert!(!dir.path().join("signing.lock").exists());

        let file = create_key(&all, at(0)).unwrap();
        assert!(dir.path().join(&file).exists() && has_keys(dir.path()).unwrap());
        let signer = Signer::load_or_create(&keys, at(9)).unwrap();
        assert_eq!(file_name(&kids(&signer)[0]), file);
        assert!(!dir.path().join("signing.lock").exists());
    }

    #[test]
    fn a_damaged_or_renamed_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let kid = create(&keys, at(0)).unwrap().kid;
        fs::rename(
            dir.path().join(file_name(&kid)),
            dir.path().join("signing-x.pem"),
        )
        .unwrap();
        let error = Signer::load_or_create(&keys, at(0)).err().unwrap();
        assert!(format!("{error:#}").contains("signing-x.pem"), "{error:#}");
    }
}
