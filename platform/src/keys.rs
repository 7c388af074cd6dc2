//! Secrets that services share, as files in one directory.
//!
//! | file | what |
//! |---|---|
//! | `service.key` | signs the tokens with which services call each other |
//! | `lookup.key` | keys the hash under which e-mail addresses are looked up |
//! | `mail.pub` | seals what only a mail may carry (X25519) |
//! | `mail.key` | opens it; for notify-service alone |
//!
//! Each holds 32 bytes. A file that is missing is made; one that is there is never touched. Where `mail.pub` is there and
//! `mail.key` is not, mails can be sealed and not opened: that is what every service but notify-service needs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
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

/// Secrets that services share.
pub struct Keys {
    dir: PathBuf,
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
        create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let service = load_key(dir, "service.key")?;
        let lookup = load_key(dir, "lookup.key")?;
        let (mail_private, mail_public) = load_mail_keys(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            lookup,
            mail_public,
            mail_private,
            service_tokens: ServiceTokens::new(&service),
        })
    }

    /// The directory of the secrets.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of the file `name` beside the other secrets; `make` gives it when there is none yet.
    ///
    /// # Errors
    /// As [`Keys::load_or_create`]; also when `name` is not a plain file name.
    pub fn load_or_create_file(
        &self,
        name: &str,
        make: impl FnOnce() -> Vec<u8>,
    ) -> anyhow::Result<Vec<u8>> {
        load_or_create_file(&self.dir, name, make)
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

fn load_mail_keys(dir: &Path) -> anyhow::Result<(Option<MailPrivateKey>, MailPublicKey)> {
    let damaged =
        |name: &str, error| anyhow::anyhow!("{}/{name} is damaged: {error}", dir.display());
    let told = read(&dir.join("mail.pub"))?;
    if let Some(told) = &told
        && read(&dir.join("mail.key"))?.is_none()
    {
        let public = MailPublicKey::from_bytes(told).map_err(|e| damaged("mail.pub", e))?;
        return Ok((None, public));
    }
    let private = MailPrivateKey::from_bytes(&load_key(dir, "mail.key")?)
        .map_err(|error| damaged("mail.key", error))?;
    let public = X25519HkdfSha256::sk_to_pk(&private);
    let told = load_or_create_file(dir, "mail.pub", || public.to_bytes().to_vec())?;
    ensure!(
        told == public.to_bytes().as_slice(),
        "mail.pub and mail.key in {} do not belong together",
        dir.display()
    );
    Ok((Some(private), public))
}

fn load_key(dir: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let key = load_or_create_file(dir, name, || rand::random::<[u8; KEY_LENGTH]>().to_vec())?;
    ensure!(
        key.len() == KEY_LENGTH,
        "{}/{name} is damaged: it holds {} bytes instead of {KEY_LENGTH}",
        dir.display(),
        key.len()
    );
    Ok(key)
}

fn load_or_create_file(
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> Vec<u8>,
) -> anyhow::Result<Vec<u8>> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    ensure!(plain, "{name:?} is not a plain file name");
    let path = dir.join(name);
    if let Some(content) = read(&path)? {
        return Ok(content);
    }
    create(dir, &path, &make()).with_context(|| format!("cannot create {}", path.display()))?;
    // Read back: another process may have been faster, and then its secret counts.
    read(&path)?.with_context(|| format!("{} is gone", path.display()))
}

fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let failed = || format!("cannot read {}", path.display());
    match fs::metadata(path) {
        Ok(metadata) => ensure_private(path, &metadata)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(failed),
    }
    fs::read(path).map(Some).with_context(failed)
}

/// Gives `path` its content in one step: whoever sees the file sees all of it, and of two that race one wins.
fn create(dir: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!(".{:032x}.new", rand::random::<u128>()));
    let outcome = write_new(&temporary, content).and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(dir),
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn ensure_private(path: &Path, metadata: &fs::Metadata) -> anyhow::Result<()> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
    ensure!(
        mode & 0o007 == 0,
        "{} may be read or changed by everyone (mode {:o}); allow its owner only: chmod 600",
        path.display(),
        mode & 0o777
    );
    Ok(())
}

#[cfg(not(unix))]
fn ensure_private(_: &Path, _: &fs::Metadata) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> MailSecret {
        MailSecret {
            to: "asha@example.org".into(),
            name: "Asha".into(),
            values: [("token".to_owned(), "t0p".to_owned())].into(),
        }
    }

    #[test]
    fn secrets_are_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::load_or_create(&dir.path().join("keys")).unwrap();
        let second = Keys::load_or_create(&dir.path().join("keys")).unwrap();
        assert_eq!(first.email_hash("A@b.org"), second.email_hash(" a@B.org"));
        assert_ne!(first.email_hash("a@b.org"), first.email_hash("a@c.org"));
        let sealed = first.seal_mail(&secret(), b"user");
        assert_eq!(second.open_mail(&sealed, b"user").unwrap(), secret());
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let hashes: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let keys = Keys::load_or_create(&path).unwrap();
                        (
                            keys.email_hash("a@b.org"),
                            keys.load_or_create_file("x", || rand::random::<[u8; 16]>().to_vec())
                                .unwrap(),
                        )
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]));
        let left = fs::read_dir(&path).unwrap().count();
        assert_eq!(left, 5, "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn secrets_belong_to_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        Keys::load_or_create(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("mail.key")), 0o600);
        fs::set_permissions(path.join("mail.key"), fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Keys::load_or_create(&path).unwrap_err().to_string();
        assert!(refused.contains("mail.key"), "{refused}");
    }

    #[test]
    fn a_damaged_secret_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Keys::load_or_create(dir.path()).unwrap();
        let path = dir.path().join("lookup.key");
        fs::write(&path, b"short").unwrap();
        let refused = Keys::load_or_create(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("lookup.key"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn who_has_only_the_public_half_seals_and_cannot_open() {
        let dir = tempfile::tempdir().unwrap();
        let notify = Keys::load_or_create(&dir.path().join("notify")).unwrap();
        let others = dir.path().join("others");
        create_dir(&others).unwrap();
        for name in ["service.key", "lookup.key", "mail.pub"] {
            fs::copy(notify.dir().join(name), others.join(name)).unwrap();
        }
        let auth = Keys::load_or_create(&others).unwrap();
        assert!(!others.join("mail.key").exists());
        let sealed = auth.seal_mail(&secret(), b"user");
        assert_eq!(
            auth.open_mail(&sealed, b"user").unwrap_err().kind(),
            Kind::Internal
        );
        assert_eq!(notify.open_mail(&sealed, b"user").unwrap(), secret());
    }

    #[test]
    fn halves_that_do_not_belong_together_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = Keys::load_or_create(&dir.path().join("one")).unwrap();
        let two = Keys::load_or_create(&dir.path().join("two")).unwrap();
        fs::copy(one.dir().join("mail.pub"), two.dir().join("mail.pub")).unwrap();
        let refused = Keys::load_or_create(two.dir()).unwrap_err().to_string();
        assert!(refused.contains("do not belong together"), "{refused}");
    }

    #[test]
    fn file_names_cannot_leave_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        for name in ["", "../x", "/etc/x", ".hidden", "a/b"] {
            assert!(
                keys.load_or_create_file(name, Vec::new).is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_seal_opens_only_unchanged_and_for_whom_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let sealed = keys.seal_mail(&secret(), b"user");
        assert_ne!(
            sealed,
            keys.seal_mail(&secret(), b"user"),
            "each seal is different"
        );
        assert!(keys.open_mail(&sealed, b"other").is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(
                keys.open_mail(&changed, b"user").unwrap_err().reason(),
                "seal_broken"
            );
            assert!(keys.open_mail(&sealed[..at], b"user").is_err());
        }
        let other_dir = tempfile::tempdir().unwrap();
        let other = Keys::load_or_create(other_dir.path()).unwrap();
        assert!(other.open_mail(&sealed, b"user").is_err());
    }
}
