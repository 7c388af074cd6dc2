//! Secrets that services share, as files in one directory.
//!
//! | file | what |
//! |---|---|
//! | `service.key` | signs the tokens with which services call each other |
//! | `lookup.key` | keys the hash under which e-mail addresses are looked up |
//! | `mail.pub` | seals what only a mail may carry (X25519) |
//! | `mail.key` | opens it; for notify-service alone |
//!
//! Each holds 32 bytes. One process that is all services makes what is missing: [`Keys::load_or_create`]. Processes that
//! must agree with others never do: they take what `coffer keys create` has made, from a folder that they may only read,
//! and end where something is missing: [`Keys::load`].
//!
//! Where `mail.pub` is there and `mail.key` is not, mails can be sealed and not opened: that is what every service but
//! notify-service needs.

mod files;

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use hmac::{Hmac, KeyInit, Mac};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use prost::Message;
use proto::events::v1::MailSecret;
use sha2::Sha256;

use crate::token::ServiceTokens;
use crate::{Error, Kind};

type MailPrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type MailPublicKey = <X25519HkdfSha256 as Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as Kem>::EncappedKey;

/// First byte of a sealed mail: the suite and layout that follow.
const SEAL_VERSION: u8 = 1;
/// Binds a seal to its use, so that nothing sealed for another purpose opens as a mail.
const SEAL_INFO: &[u8] = b"coffer mail v1";
const KEY_LENGTH: usize = 32;
/// What every process needs.
const NEEDED: [&str; 3] = ["service.key", "lookup.key", "mail.pub"];
const MAIL_KEY: &str = "mail.key";

/// Secrets that services share.
pub struct Keys {
    dir: PathBuf,
    may_create: bool,
    lookup: Vec<u8>,
    mail_private: Option<MailPrivateKey>,
    mail_public: MailPublicKey,
    service_tokens: ServiceTokens,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Loads the secrets of a directory; makes the directory (0700) and the files (0600) that are missing.
    ///
    /// Safe when two processes start at once: both end with the same secrets.
    ///
    /// # Errors
    /// When a file cannot be read, made or is damaged, or when others than its owner and group may read it.
    pub fn load_or_create(dir: &Path) -> anyhow::Result<Self> {
        files::create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let service = load_or_create_key(dir, "service.key")?;
        let lookup = load_or_create_key(dir, "lookup.key")?;
        let (mail_private, mail_public) = load_or_create_mail_keys(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            may_create: true,
            lookup,
            mail_public,
            mail_private,
            service_tokens: ServiceTokens::new(&service),
        })
    }

    /// Loads the secrets of a directory in which nothing is made: a process that invented a secret would be understood
    /// by no other. `mail.key` is taken where it is there and may be read; see [`Keys::ensure_opens_mail`].
    ///
    /// The directory may be read-only and its files links, as in a volume of Kubernetes.
    ///
    /// # Errors
    /// When a file is missing, with what makes it; when one cannot be read or is damaged, or when others than its owner
    /// and group may read it.
    pub fn load(dir: &Path) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        for name in NEEDED {
            if files::read(&dir.join(name))?.is_none() {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            bail!(is_missing(dir, &missing.join(", ")));
        }
        let key = |name: &str| load_key(dir, name)?.with_context(|| is_missing(dir, name));
        let public = read_public(dir, &key("mail.pub")?)?;
        Ok(Self {
            dir: dir.to_owned(),
            may_create: false,
            lookup: key("lookup.key")?,
            mail_private: readable_mail_key(dir, &public)?,
            mail_public: public,
            service_tokens: ServiceTokens::new(&key("service.key")?),
        })
    }

    /// Makes all secrets that services share, in a directory that has none of them; makes the directory (0700) too.
    ///
    /// # Errors
    /// When one is there already: whoever holds it would no longer be understood. When a file cannot be made.
    pub fn create(dir: &Path) -> anyhow::Result<Self> {
        for name in NEEDED.into_iter().chain([MAIL_KEY]) {
            let path = dir.join(name);
            let there = path.symlink_metadata().is_ok();
            ensure!(
                !there,
                "{} is there already and stays as it is",
                path.display()
            );
        }
        Self::load_or_create(dir)
    }

    /// Asserts that sealed mails can be opened, for whoever is to send them.
    ///
    /// # Errors
    /// When `mail.key` is missing, with what makes it, or may not be read.
    pub fn ensure_opens_mail(&self) -> anyhow::Result<()> {
        if self.mail_private.is_none() {
            load_key(&self.dir, MAIL_KEY)?.with_context(|| is_missing(&self.dir, MAIL_KEY))?;
        }
        Ok(())
    }

    /// Whether secrets that are missing may be made here.
    pub fn may_create(&self) -> bool {
        self.may_create
    }

    /// The directory of the secrets.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of the file `name` beside the other secrets; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, when others than its owner and group may read it, or when `name` is not a plain file name.
    pub fn load_file(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        files::ensure_plain(name)?;
        files::read(&self.dir.join(name))
    }

    /// The content of the file `name` beside the other secrets; `make` gives it when there is none yet.
    ///
    /// # Errors
    /// As [`Keys::load_file`]; also when there is none and none may be made here.
    pub fn load_or_create_file(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8>,
    ) -> anyhow::Result<Vec<u8>> {
        if self.may_create {
            return files::load_or_create(&self.dir, name, make);
        }
        self.load_file(name)?
            .with_context(|| is_missing(&self.dir, name))
    }

    /// Makes and checks the tokens with which services call each other.
    pub fn service_tokens(&self) -> &ServiceTokens {
        &self.service_tokens
    }

    /// Keyed hash (HMAC-SHA256) under which an address is looked up without being stored; regardless of case.
    pub fn email_hash(&self, email: &str) -> Vec<u8> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.lookup).expect("HMAC takes keys of every length");
        mac.update(crate::email::normalise(email).as_bytes());
        mac.finalize().into_bytes().to_vec()
    }

    /// Encrypts what a mail must carry (HPKE base mode, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM). `aad` must be
    /// given again to open it: the user id as text.
    pub fn seal_mail(&self, secret: &MailSecret, aad: &[u8]) -> Vec<u8> {
        let (encapped, ciphertext) =
            hpke::single_shot_seal::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &self.mail_public,
                SEAL_INFO,
                &secret.encode_to_vec(),
                aad,
            )
            .expect(
                "sealing fails only for a degenerate public key, and ours comes from a private one",
            );
        let mut sealed = vec![SEAL_VERSION];
        sealed.extend_from_slice(&encapped.to_bytes());
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Decrypts what [`Keys::seal_mail`] made.
    ///
    /// # Errors
    /// `seal_broken` (invalid argument) when it was made with another key, for another `aad`, or was changed on its
    /// way: trying again will not help. A fault where there is no `mail.key`.
    pub fn open_mail(&self, sealed: &[u8], aad: &[u8]) -> Result<MailSecret, Error> {
        let broken = || {
            Error::new(
                Kind::InvalidArgument,
                "seal_broken",
                "the seal cannot be opened",
            )
        };
        let private = self.mail_private.as_ref().ok_or_else(|| {
            Error::internal(anyhow::anyhow!(
                "there is no mail.key in {}",
                self.dir.display()
            ))
        })?;
        let (version, rest) = sealed.split_first().ok_or_else(broken)?;
        if *version != SEAL_VERSION || rest.len() < EncappedKey::size() {
            return Err(broken());
        }
        let (encapped, ciphertext) = rest.split_at(EncappedKey::size());
        let encapped = EncappedKey::from_bytes(encapped).map_err(|_| broken())?;
        let plain = hpke::single_shot_open::<AesGcm256, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            private,
            &encapped,
            SEAL_INFO,
            ciphertext,
            aad,
        )
        .map_err(|_| broken())?;
        MailSecret::decode(plain.as_slice()).map_err(|_| broken())
    }
}

/// What to say of secrets that are not in `dir`.
pub fn is_missing(dir: &Path, names: &str) -> String {
    let dir = dir.display();
    format!(
        "{names} is missing in {dir}; `coffer keys create --dir {dir}` makes all secrets, once for all services"
    )
}

fn load_or_create_mail_keys(dir: &Path) -> anyhow::Result<(Option<MailPrivateKey>, MailPublicKey)> {
    let told = load_key(dir, "mail.pub")?;
    if let Some(told) = &told
        && files::read(&dir.join(MAIL_KEY))?.is_none()
    {
        return Ok((None, read_public(dir, told)?));
    }
    let private = read_private(dir, &load_or_create_key(dir, MAIL_KEY)?)?;
    let public = X25519HkdfSha256::sk_to_pk(&private);
    let told = files::load_or_create(dir, "mail.pub", || public.to_bytes().to_vec())?;
    ensure_pair(dir, &private, &read_public(dir, &told)?)?;
    Ok((Some(private), public))
}

/// The private half, for those who may read it.
fn readable_mail_key(dir: &Path, public: &MailPublicKey) -> anyhow::Result<Option<MailPrivateKey>> {
    let key = match load_key(dir, MAIL_KEY) {
        Err(error) if is_denied(&error) => return Ok(None),
        key => key?,
    };
    let Some(key) = key else { return Ok(None) };
    let private = read_private(dir, &key)?;
    ensure_pair(dir, &private, public)?;
    Ok(Some(private))
}

fn is_denied(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn read_public(dir: &Path, bytes: &[u8]) -> anyhow::Result<MailPublicKey> {
    MailPublicKey::from_bytes(bytes).map_err(|error| damaged(dir, "mail.pub", &error))
}

fn read_private(dir: &Path, bytes: &[u8]) -> anyhow::Result<MailPrivateKey> {
    MailPrivateKey::from_bytes(bytes).map_err(|error| damaged(dir, MAIL_KEY, &error))
}

fn ensure_pair(dir: &Path, private: &MailPrivateKey, public: &MailPublicKey) -> anyhow::Result<()> {
    ensure!(
        X25519HkdfSha256::sk_to_pk(private).to_bytes() == public.to_bytes(),
        "mail.pub and mail.key in {} do not belong together",
        dir.display()
    );
    Ok(())
}

fn damaged(dir: &Path, name: &str, why: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!("{}/{name} is damaged: {why}", dir.display())
}

fn load_or_create_key(dir: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let make = || rand::random::<[u8; KEY_LENGTH]>().to_vec();
    of_length(dir, name, files::load_or_create(dir, name, make)?)
}

fn load_key(dir: &Path, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let key = files::read(&dir.join(name))?;
    key.map(|key| of_length(dir, name, key)).transpose()
}

fn of_length(dir: &Path, name: &str, key: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    if key.len() == KEY_LENGTH {
        return Ok(key);
    }
    let why = format!("it holds {} bytes instead of {KEY_LENGTH}", key.len());
    Err(damaged(dir, name, &why))
}

#[cfg(test)]
mod tests;
