//! Mails as files in a folder, for the embedded profile and for tests.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::{Channel, Mail, SendError, Transfer, message};

/// Writes each mail to `<id>.eml`, readable by its owner only. The name comes from the mail, so that a mail that is sent
/// once more after a crash replaces itself.
#[derive(Debug)]
pub(crate) struct FolderChannel {
    folder: PathBuf,
}

impl FolderChannel {
    /// Opens the folder, makes it when it is missing, and removes what a crash left half-written.
    pub(crate) async fn open(folder: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder).await?;
        let mut entries = fs::read_dir(folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with('.') && name.ends_with(".part") {
                let _ = fs::remove_file(entry.path()).await;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// The file appears whole or not at all, and is on the disk when this returns.
    async fn write(&self, id: Uuid, content: &[u8]) -> std::io::Result<()> {
        let temporary = self
            .folder
            .join(format!(".{id}.{:016x}.part", rand::random::<u64>()));
        let outcome = async {
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            options.mode(0o600);
            let mut file = options.open(&temporary).await?;
            file.write_all(content).await?;
            file.sync_all().await?;
            fs::rename(&temporary, self.folder.join(format!("{id}.eml"))).await?;
            sync_folder(&self.folder).await
        }
        .await;
        if outcome.is_err() {
            let _ = fs::remove_file(&temporary).await;
        }
        outcome
    }
}

#[async_trait]
impl Channel for FolderChannel {
    async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let content = message(mail, Transfer::EightBit)?.formatted();
        self.write(mail.id, &content)
            .await
            .map_err(|error| SendError::Transient(format!("{}: {error}", self.folder.display())))
    }
}

#[cfg(unix)]
async fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder).await?.sync_all().await
}

#[cfg(not(unix))]
async fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    struct Folder {
        dir: tempfile::TempDir,
        channel: FolderChannel,
    }

    #[async_trait]
    impl contract::Harness for Folder {
        fn channel(&self) -> &dyn Channel {
            &self.channel
        }

        async fn arrived(&self) -> Vec<String> {
            std::fs::read_dir(self.dir.path())
                .unwrap()
                .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
                .collect()
        }
    }

    async fn folder() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let channel = FolderChannel::open(dir.path()).await.unwrap();
        Folder { dir, channel }
    }

    #[tokio::test]
    async fn a_folder_is_a_channel() {
        contract::holds(&folder().await).await;
    }

    #[tokio::test]
    async fn a_mail_that_is_sent_again_replaces_itself() {
        use contract::Harness;
        let folder = folder().await;
        folder.channel.send(&contract::mail(1)).await.unwrap();
        folder.channel.send(&contract::mail(1)).await.unwrap();
        assert_eq!(folder.arrived().await.len(), 1);
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_is_removed() {
        use contract::Harness;
        let folder = folder().await;
        std::fs::write(folder.dir.path().join(".x.part"), "half").unwrap();
        FolderChannel::open(folder.dir.path()).await.unwrap();
        assert!(folder.arrived().await.is_empty());
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_tried_again_later() {
        let folder = folder().await;
        std::fs::remove_dir_all(folder.dir.path()).unwrap();
        let refused = folder.channel.send(&contract::mail(1)).await;
        assert!(
            matches!(refused, Err(SendError::Transient(_))),
            "{refused:?}"
        );
    }
}
