use std::fs;

use super::files::create_dir;
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

fn as_a_volume(from: &Path, names: &[&str]) -> tempfile::TempDir {
    let volume = tempfile::tempdir().unwrap();
    let data = volume.path().join("..2026_11_20");
    fs::create_dir(&data).unwrap();
    for name in names {
        fs::copy(from.join(name), data.join(name)).unwrap();
    }
    volume
}

/// Makes a copy of secrets look like a volume of Kubernetes: links into a folder, everything read-only.
#[cfg(unix)]
fn seal_volume(volume: &Path, names: &[&str]) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    symlink("..2026_11_20", volume.join("..data")).unwrap();
    for name in names {
        symlink(format!("..data/{name}"), volume.join(name)).unwrap();
        set(&volume.join("..2026_11_20").join(name), 0o440);
    }
    set(&volume.join("..2026_11_20"), 0o550);
    set(volume, 0o550);
}

#[cfg(unix)]
#[test]
fn a_read_only_volume_of_links_is_enough_and_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let all = Keys::create(dir.path()).unwrap();
    let names = ["service.key", "lookup.key", "mail.pub"];
    let volume = as_a_volume(dir.path(), &names);
    seal_volume(volume.path(), &names);
    let keys = Keys::load(volume.path()).unwrap();
    assert!(!keys.may_create() && all.may_create());
    assert_eq!(keys.email_hash("a@b.org"), all.email_hash("a@b.org"));
    let sealed = keys.seal_mail(&secret(), b"user");
    assert_eq!(all.open_mail(&sealed, b"user").unwrap(), secret());

    let error = keys.ensure_opens_mail().unwrap_err().to_string();
    assert!(
        error.contains("mail.key is missing") && error.contains("coffer keys create --dir"),
        "{error}"
    );
    assert!(keys.load_or_create_file("signing-x.pem", Vec::new).is_err());
    assert_eq!(keys.load_file("signing-x.pem").unwrap(), None);
    assert_eq!(
        fs::read_dir(volume.path()).unwrap().count(),
        5,
        "nothing was made"
    );
}

#[test]
fn who_holds_the_private_half_opens_what_was_sealed() {
    let dir = tempfile::tempdir().unwrap();
    Keys::create(dir.path()).unwrap();
    let keys = Keys::load(dir.path()).unwrap();
    keys.ensure_opens_mail().unwrap();
    let sealed = keys.seal_mail(&secret(), b"user");
    assert_eq!(keys.open_mail(&sealed, b"user").unwrap(), secret());
}

#[test]
fn whatever_is_missing_is_named_together_with_what_makes_it_and_nothing_is_invented() {
    let dir = tempfile::tempdir().unwrap();
    let error = Keys::load(&dir.path().join("nowhere"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("service.key, lookup.key, mail.pub is missing"),
        "{error}"
    );
    assert!(!dir.path().join("nowhere").exists());

    Keys::create(dir.path()).unwrap();
    fs::remove_file(dir.path().join("lookup.key")).unwrap();
    let error = Keys::load(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("lookup.key is missing"), "{error}");
    assert!(
        error.contains(&format!(
            "coffer keys create --dir {}",
            dir.path().display()
        )),
        "{error}"
    );
    assert!(!dir.path().join("lookup.key").exists());
}

#[test]
fn damaged_and_mismatched_secrets_are_refused_where_nothing_may_be_made_too() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    Keys::create(&one).unwrap();
    Keys::create(&two).unwrap();
    fs::copy(one.join("mail.pub"), two.join("mail.pub")).unwrap();
    let error = Keys::load(&two).unwrap_err().to_string();
    assert!(error.contains("do not belong together"), "{error}");
    fs::write(one.join("service.key"), b"short").unwrap();
    let error = Keys::load(&one).unwrap_err().to_string();
    assert!(error.contains("service.key is damaged"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_may_read_is_refused_where_nothing_may_be_made_too() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    Keys::create(dir.path()).unwrap();
    let path = dir.path().join("service.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    let error = Keys::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("service.key may be read"), "{error}");
}

#[test]
fn secrets_that_are_there_are_not_made_again() {
    let dir = tempfile::tempdir().unwrap();
    Keys::create(dir.path()).unwrap();
    let before = fs::read(dir.path().join("service.key")).unwrap();
    let error = Keys::create(dir.path()).unwrap_err().to_string();
    assert!(error.contains("service.key is there already"), "{error}");
    assert_eq!(fs::read(dir.path().join("service.key")).unwrap(), before);
}
