//! The simulator's memory: an append-only file with a line for each message given to it.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// One message as it was given to the simulator. A message given twice has two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitRecord {
    /// The sender's id of the message.
    pub reference: Uuid,
    /// Number in E.164.
    pub to: String,
    /// When it was given, in unix microseconds.
    pub at: i64,
}

/// Reads a journal line by line. A line cut off by a crash was never answered for and is skipped.
///
/// # Errors
/// When the file exists but cannot be opened; a missing one is empty. Items: when it cannot be read further.
pub fn read(path: &Path) -> Result<impl Iterator<Item = Result<SubmitRecord>> + use<>> {
    let file: Box<dyn Read> = match File::open(path) {
        Ok(file) => Box::new(file),
        Err(error) if error.kind() == ErrorKind::NotFound => Box::new(std::io::empty()),
        Err(error) => return Err(error),
    };
    Ok(BufReader::with_capacity(1 << 16, file)
        .split(b'\n')
        .filter_map(|line| match line {
            Ok(line) => serde_json::from_slice(&line).ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
        .fuse())
}

/// The writing end of a journal.
pub(super) struct Journal {
    path: PathBuf,
    file: tokio::fs::File,
    /// Whether the file may end within a line.
    torn: bool,
}

impl Journal {
    /// Opens the file, and makes it and its folder where they are missing.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .await?;
        let owned = path.to_owned();
        let torn = tokio::task::spawn_blocking(move || ends_within_a_line(&owned))
            .await
            .map_err(std::io::Error::other)??;
        Ok(Self {
            path: path.to_owned(),
            file,
            torn,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a write that was given up while it was under way.
    pub(super) async fn settle(&mut self) -> Result<()> {
        self.file.flush().await
    }

    /// Writes records and returns once they are on the disk.
    pub(super) async fn append(&mut self, records: &[SubmitRecord]) -> Result<()> {
        let mut lines = Vec::with_capacity(records.len() * 96 + 1);
        if self.torn {
            lines.push(b'\n');
        }
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        // Until it is known to be whole, the last line counts as torn; so it does when this future is dropped.
        self.torn = true;
        self.file.write_all(&lines).await?;
        self.file.flush().await?;
        self.file.sync_data().await?;
        self.torn = false;
        Ok(())
    }
}

fn ends_within_a_line(path: &Path) -> Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u128) -> SubmitRecord {
        SubmitRecord {
            reference: Uuid::from_u128(n),
            to: "+27821234567".to_owned(),
            at: 7,
        }
    }

    #[tokio::test]
    async fn a_torn_line_is_skipped_and_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/journal.jsonl");
        assert_eq!(read(&path).unwrap().count(), 0);
        Journal::open(&path)
            .await
            .unwrap()
            .append(&[record(1), record(2)])
            .await
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend(b"{\"reference\":\"0000");
        std::fs::write(&path, bytes).unwrap();
        Journal::open(&path)
            .await
            .unwrap()
            .append(&[record(3)])
            .await
            .unwrap();
        let read: Vec<_> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [record(1), record(2), record(3)]);
    }
}
