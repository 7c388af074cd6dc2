//! Files of secrets: whole or not there, for their owner alone.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, ensure};

/// Refuses names that lead out of the directory or that are hidden.
pub(super) fn ensure_plain(name: &str) -> anyhow::Result<()> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    ensure!(plain, "{name:?} is not a plain file name");
    Ok(())
}

/// The content of the file `name`; `make` gives it when there is none yet. Of two that make it at once one counts.
pub(super) fn load_or_create(
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> Vec<u8>,
) -> anyhow::Result<Vec<u8>> {
    ensure_plain(name)?;
    let path = dir.join(name);
    if let Some(content) = read(&path)? {
        return Ok(content);
    }
    create(dir, &path, &make()).with_context(|| format!("cannot create {}", path.display()))?;
    // Read back: another process may have been faster, and then its secret counts.
    read(&path)?.with_context(|| format!("{} is gone", path.display()))
}

/// The content of a file that nobody but its owner and group may read; `None` when there is none. Links are followed.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
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

pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
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
        "{} may be read or changed by everyone (mode {:o}); allow its owner and group only: chmod 600, or defaultMode 0440 \
         of a volume",
        path.display(),
        mode & 0o777
    );
    Ok(())
}

#[cfg(not(unix))]
fn ensure_private(_: &Path, _: &fs::Metadata) -> anyhow::Result<()> {
    Ok(())
}
