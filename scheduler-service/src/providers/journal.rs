//! The simulator's memory: an append-only file with a line for each message given to it.
//!
//! Any number of processes of one machine may keep one file. Each hands its lines to the system in one write at the end
//! of the file (`O_APPEND`), and each reads what the others wrote before it says that it does not know a message. A
//! process that dies within a write leaves a torn line; every write begins with a line end, so that it spoils no other.
//! A file on a network share is not enough: there a write at the end of a file is not one step.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes read at a time.
const BUFFER: usize = 1 << 16;
/// Times that a write which the system cut short is carried on.
const SHORT_WRITES: usize = 16;

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
    Ok(BufReader::with_capacity(BUFFER, file)
        .split(b'\n')
        .filter_map(|line| match line {
            Ok(line) => serde_json::from_slice(&line).ok().map(Ok),
            Err(error) => Some(Err(error)),
        })
        .fuse())
}

/// One process's hold of a journal. Its calls block.
pub(super) struct Journal {
    file: File,
    /// Up to where the file was read, in bytes; a line begins there.
    seen: u64,
}

impl Journal {
    /// Opens the file, and makes it and its folder where they are missing. Nothing of it is read yet.
    pub(super) fn open(path: &Path) -> Result<Self> {
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path)?;
        Ok(Self { file, seen: 0 })
    }

    /// Writes records and returns once they are on the disk. Tells whether everything before them had been read, so that
    /// they are all that is new.
    pub(super) fn append(&mut self, records: &[SubmitRecord]) -> Result<bool> {
        let mut lines = Vec::with_capacity(records.len() * 112 + 1);
        // Somebody may have died within the line before.
        lines.push(b'\n');
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        let written = write_lines(&mut self.file, lines)?;
        self.file.sync_data()?;
        let end = self.file.stream_position()?;
        let alone = self.seen.checked_add(written) == Some(end);
        if alone {
            self.seen = end;
        }
        Ok(alone)
    }

    /// Hands out the records that stand in the file since the last time; a last one more than once while no line follows it.
    pub(super) fn catch_up(&mut self, mut each: impl FnMut(SubmitRecord)) -> Result<()> {
        let end = self.file.metadata()?.len();
        if end < self.seen {
            tracing::warn!("the simulator's journal was cut and is read anew");
            self.seen = 0;
        }
        self.file.seek(SeekFrom::Start(self.seen))?;
        let mut tail = BufReader::with_capacity(BUFFER, (&self.file).take(end - self.seen));
        let mut line = Vec::new();
        loop {
            line.clear();
            let bytes = tail.read_until(b'\n', &mut line)?;
            if bytes == 0 {
                return Ok(());
            }
            // A record without its line end is whole too: the next write adds the end. It is read again then, and so is
            // one that is not whole yet.
            if line.last() == Some(&b'\n') {
                self.seen += bytes as u64;
            }
            if let Ok(record) = serde_json::from_slice(&line) {
                each(record);
            }
        }
    }
}

/// Writes whole lines to the end of a file, in one step where the system allows. Tells how many bytes that were.
fn write_lines(file: &mut impl Write, mut lines: Vec<u8>) -> Result<u64> {
    let mut written = 0;
    for _ in 0..SHORT_WRITES {
        let taken = match file.write(&lines) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        written += taken as u64;
        if taken == lines.len() {
            return Ok(written);
        }
        // Others may write now, so the line that was cut is written again as a whole, behind a line end. One that lacks
        // nothing but its line end gets that.
        let rest = match lines[taken] {
            b'\n' => taken,
            _ => lines[..taken]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .unwrap_or(0),
        };
        lines.drain(..rest);
    }
    Err(ErrorKind::WriteZero.into())
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

    fn caught_up(journal: &mut Journal) -> Vec<SubmitRecord> {
        let mut records = Vec::new();
        journal
            .catch_up(|record| records.push(record))
            .expect("the journal can be read");
        records
    }

    /// Appends bytes as somebody does who is killed within a write.
    fn tear(path: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(bytes).unwrap();
    }

    #[test]
    fn a_torn_line_is_skipped_and_does_not_spoil_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/journal.jsonl");
        assert_eq!(read(&path).unwrap().count(), 0);
        let mut one = Journal::open(&path).unwrap();
        let mut two = Journal::open(&path).unwrap();
        assert!(one.append(&[record(1), record(2)]).unwrap());
        tear(&path, b"{\"reference\":\"0000");
        assert_eq!(caught_up(&mut two), [record(1), record(2)]);
        assert!(!two.append(&[record(3)]).unwrap(), "somebody was there");
        assert_eq!(caught_up(&mut one), [record(3)]);
        assert_eq!(caught_up(&mut two), [record(3)]);
        assert!(two.append(&[record(4)]).unwrap());
        assert_eq!(caught_up(&mut two), []);
        let read: Vec<_> = read(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [record(1), record(2), record(3), record(4)]);
    }

    #[test]
    fn a_record_counts_even_where_the_line_end_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        let whole = serde_json::to_vec(&record(1)).unwrap();
        tear(&path, &whole[..20]);
        assert_eq!(caught_up(&mut journal), []);
        tear(&path, &whole[20..]);
        assert_eq!(caught_up(&mut journal), [record(1)]);
        journal.append(&[record(2)]).unwrap();
        assert_eq!(caught_up(&mut journal), [record(1), record(2)]);
        assert_eq!(caught_up(&mut journal), []);
    }

    #[test]
    fn a_file_that_was_cut_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&[record(1), record(2)]).unwrap();
        std::fs::write(&path, b"").unwrap();
        tear(&path, &serde_json::to_vec(&record(3)).unwrap());
        assert_eq!(caught_up(&mut journal), [record(3)]);
    }

    /// Takes a few bytes at a time, between which others write.
    struct Stingy {
        bytes: usize,
        file: Vec<u8>,
    }

    impl Write for Stingy {
        fn write(&mut self, lines: &[u8]) -> Result<usize> {
            let taken = lines.len().min(self.bytes);
            self.bytes += 7;
            self.file.extend_from_slice(&lines[..taken]);
            self.file.extend_from_slice(b"\n{}\n");
            Ok(taken)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_short_write_leaves_each_record_once() {
        for first in 1..40 {
            let mut file = Stingy {
                bytes: first,
                file: Vec::new(),
            };
            write_lines(&mut file, b"\n{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n".to_vec()).unwrap();
            let whole: Vec<&[u8]> = file
                .file
                .split(|byte| *byte == b'\n')
                .filter(|line| line.len() == 7 && line.ends_with(b"}"))
                .collect();
            assert_eq!(
                whole,
                [b"{\"a\":1}", b"{\"b\":2}", b"{\"c\":3}"],
                "{first} bytes at first"
            );
        }
    }
}
