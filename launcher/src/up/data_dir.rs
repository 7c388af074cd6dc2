use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context, bail};

/// A data folder that no other process uses while this value lives.
#[derive(Debug)]
pub struct DataDir {
    /// The system lets the lock go when the file is closed, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Makes the folder where it is missing (for its owner only) and takes its lock.
    ///
    /// # Errors
    /// When another process has it, or it cannot be made.
    pub fn lock(folder: &Path) -> anyhow::Result<Self> {
        create(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        close_to_others(folder)
            .with_context(|| format!("cannot close {} to others", folder.display()))?;
        let path = folder.join("coffer.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => bail!(
                "another coffer already runs on {}. Stop it first, or give this one a folder of its own \
                 with COFFER_DATA_DIR.",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }
}

#[cfg(unix)]
fn create(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// The folder holds addresses and hashes of passwords: one that was there before may be open to everyone.
#[cfg(unix)]
fn close_to_others(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(folder = %folder.display(), "the data folder was open to everyone; closed it");
        fs::set_permissions(folder, fs::Permissions::from_mode(mode & 0o770))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn close_to_others(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn create(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_that_was_open_to_everyone_is_closed() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let _held = DataDir::lock(root.path()).unwrap();
        let mode = fs::metadata(root.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
    }

    #[test]
    fn a_folder_is_given_to_one_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("data");
        let first = DataDir::lock(&folder).unwrap();
        let refused = DataDir::lock(&folder).unwrap_err().to_string();
        assert!(refused.contains("another coffer already runs"), "{refused}");
        drop(first);
        DataDir::lock(&folder).unwrap();
    }
}
