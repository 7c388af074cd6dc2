//! Reads recipients from the bytes of a CSV file, wherever they are cut, in bounded memory.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// Most bytes of one row, after unquoting.
const MAX_ROW_BYTES: usize = 64 * 1024;
/// Most columns of one row.
const MAX_COLUMNS: usize = 256;
/// Bytes that are looked at, at most, to find out what separates the columns.
const HEAD_BYTES: usize = 4096;
/// Titles of the column that holds the number, best first.
const TITLES: [&str; 4] = ["to", "phone", "number", "msisdn"];
/// The mark with which some programs begin a file.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What makes a whole file unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsvError {
    /// Usually a quote that is never closed.
    #[error("the row that begins in line {0} is too long; is a quote left open?")]
    RowTooLong(u64),
    /// More columns than any list of recipients has.
    #[error("the row that begins in line {0} has more than 256 columns")]
    TooManyColumns(u64),
    /// Usually a file of another encoding.
    #[error("line {0} has a NUL byte; save the file as UTF-8")]
    NulByte(u64),
}

/// A push parser: bytes in, cells of the recipients' column out.
///
/// The column is the one with a known title in the first row, else the first column. Commas, semicolons and tabs are
/// understood, whichever the first row has most of; quotes, CRLF and a byte order mark as well. Blank lines are skipped.
pub(crate) struct RecipientsCsv {
    head: Vec<u8>,
    reader: Option<Reader>,
    column: Option<usize>,
    row: Box<[u8]>,
    row_len: usize,
    ends: Box<[usize]>,
    ends_len: usize,
    /// The line that is being read, from 1.
    line: u64,
    /// The line in which the current row began; `None` between rows.
    row_line: Option<u64>,
}

impl Default for RecipientsCsv {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            reader: None,
            column: None,
            row: vec![0; MAX_ROW_BYTES].into_boxed_slice(),
            row_len: 0,
            ends: vec![0; MAX_COLUMNS].into_boxed_slice(),
            ends_len: 0,
            line: 1,
            row_line: None,
        }
    }
}

impl RecipientsCsv {
    /// Takes the next bytes and hands out the line and content of each cell that they complete.
    ///
    /// # Errors
    /// When a row breaks a bound or has a NUL byte; the parser is of no use after that.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(u64, &str),
    ) -> Result<(), CsvError> {
        if let Some(nul) = bytes.iter().position(|byte| *byte == 0) {
            self.push(&bytes[..nul], each)?;
            return Err(CsvError::NulByte(self.line + line_ends(&self.head)));
        }
        if self.reader.is_some() {
            return self.feed(bytes, each);
        }
        self.head.extend_from_slice(bytes);
        if first_line(&self.head).is_some() {
            self.begin(each)
        } else {
            Ok(())
        }
    }

    /// Takes the end of the file and hands out the last cell.
    ///
    /// # Errors
    /// As [`RecipientsCsv::push`].
    pub(crate) fn finish(&mut self, each: &mut dyn FnMut(u64, &str)) -> Result<(), CsvError> {
        if self.reader.is_none() {
            self.begin(each)?;
        }
        if self.row_line.is_some() {
            self.step(&[], each)?;
        }
        Ok(())
    }

    fn begin(&mut self, each: &mut dyn FnMut(u64, &str)) -> Result<(), CsvError> {
        let head = std::mem::take(&mut self.head);
        let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&head);
        let mut reader = ReaderBuilder::new().delimiter(delimiter(head)).build();
        // The reader strips a mark of its own from its first input. Ours is gone already, and a second one is content:
        // with an input that it has no room for, the first input lies behind it.
        reader.read_record(b",", &mut [], &mut []);
        self.reader = Some(reader);
        self.feed(head, each)
    }

    fn feed(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(u64, &str)) -> Result<(), CsvError> {
        while let Some(&next) = bytes.first() {
            if self.row_line.is_none() {
                // Line ends between rows are skipped here, so that a row's line is known exactly.
                if matches!(next, b'\n' | b'\r') {
                    self.line += u64::from(next == b'\n');
                    bytes = &bytes[1..];
                    continue;
                }
                self.row_line = Some(self.line);
            }
            let taken = self.step(bytes, each)?;
            self.line += line_ends(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// One step of the parser; tells how many bytes it took. No bytes mean the end of the file.
    fn step(&mut self, bytes: &[u8], each: &mut dyn FnMut(u64, &str)) -> Result<usize, CsvError> {
        let line = self.row_line.unwrap_or(self.line);
        let Some(reader) = &mut self.reader else {
            return Ok(bytes.len());
        };
        let (result, taken, written, ended) = reader.read_record(
            bytes,
            &mut self.row[self.row_len..],
            &mut self.ends[self.ends_len..],
        );
        self.row_len += written;
        self.ends_len += ended;
        match result {
            ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            ReadRecordResult::OutputFull => return Err(CsvError::RowTooLong(line)),
            ReadRecordResult::OutputEndsFull => return Err(CsvError::TooManyColumns(line)),
            ReadRecordResult::Record => {
                self.take_row(line, each);
                (self.row_len, self.ends_len, self.row_line) = (0, 0, None);
            }
        }
        Ok(taken)
    }

    fn take_row(&mut self, line: u64, each: &mut dyn FnMut(u64, &str)) {
        let column = match self.column {
            Some(column) => column,
            None => match self.titled_column() {
                Some(column) => {
                    self.column = Some(column);
                    return;
                }
                None => *self.column.insert(0),
            },
        };
        each(line, &String::from_utf8_lossy(self.field(column)));
    }

    fn titled_column(&self) -> Option<usize> {
        let titles: Vec<String> = (0..self.ends_len)
            .map(|i| {
                String::from_utf8_lossy(self.field(i))
                    .trim()
                    .to_ascii_lowercase()
            })
            .collect();
        TITLES
            .iter()
            .find_map(|title| titles.iter().position(|t| t == title))
    }

    fn field(&self, index: usize) -> &[u8] {
        if index >= self.ends_len {
            return &[];
        }
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.row[start..self.ends[index]]
    }
}

fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The first row up to its end, or as much of it as is looked at; `None` while more has to come.
fn first_line(head: &[u8]) -> Option<&[u8]> {
    let mut quoted = false;
    for (i, byte) in head.iter().take(HEAD_BYTES).enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => return Some(&head[..i]),
            _ => {}
        }
    }
    head.get(..HEAD_BYTES)
}

/// What separates the columns: whichever of comma, semicolon and tab the first row has most of outside of quotes.
fn delimiter(head: &[u8]) -> u8 {
    let mut counts = [(b'\t', 0_usize), (b';', 0), (b',', 0)];
    let mut quoted = false;
    for byte in first_line(head).unwrap_or(head) {
        if *byte == b'"' {
            quoted = !quoted;
        } else if let Some(count) = counts.iter_mut().find(|(d, _)| d == byte && !quoted) {
            count.1 += 1;
        }
    }
    // The last of equals wins: a comma unless another one is seen more often.
    counts
        .iter()
        .max_by_key(|(_, n)| *n)
        .map_or(b',', |(d, _)| *d)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells_in(chunks: &[&[u8]]) -> Result<Vec<(u64, String)>, CsvError> {
        let mut csv = RecipientsCsv::default();
        let mut cells = Vec::new();
        let mut each = |line: u64, cell: &str| cells.push((line, cell.to_owned()));
        for chunk in chunks {
            csv.push(chunk, &mut each)?;
        }
        csv.finish(&mut each)?;
        Ok(cells)
    }

    fn cells(text: &str) -> Vec<(u64, String)> {
        cells_in(&[text.as_bytes()]).unwrap()
    }

    fn cell(line: u64, value: &str) -> (u64, String) {
        (line, value.to_owned())
    }

    #[test]
    fn without_a_title_the_first_column_counts() {
        assert_eq!(cells("+1,a\n+2,b"), [cell(1, "+1"), cell(2, "+2")]);
        assert_eq!(cells(""), []);
        assert_eq!(cells("\n\r\n"), []);
    }

    #[test]
    fn a_title_names_the_column() {
        assert_eq!(
            cells("name, Phone \r\nA,+1\r\nB\r\n"),
            [cell(2, "+1"), cell(3, "")]
        );
        assert_eq!(cells("number,TO\n1,2\n"), [cell(2, "2")]);
    }

    #[test]
    fn quotes_marks_semicolons_and_blank_lines_are_understood() {
        assert_eq!(
            cells("\u{feff}\"to\";\"name\"\r\n\r\n\"+1\";\"a;\r\nb\"\r\n\"+\"\"2\""),
            [cell(3, "+1"), cell(5, "+\"2")]
        );
        assert_eq!(cells("name\tmsisdn\nx\t+1\n"), [cell(2, "+1")]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        assert_eq!(
            cells("to\r\n+1\r\n\r\n+2\n\n\n+3"),
            [cell(2, "+1"), cell(4, "+2"), cell(7, "+3")]
        );
    }

    #[test]
    fn rows_are_bounded() {
        let open_quote = format!("to\n\"{}", "+1\n".repeat(40_000));
        assert_eq!(
            cells_in(&[open_quote.as_bytes()]),
            Err(CsvError::RowTooLong(2))
        );
        let wide = ",".repeat(300);
        assert_eq!(
            cells_in(&[wide.as_bytes()]),
            Err(CsvError::TooManyColumns(1))
        );
    }

    #[test]
    fn other_encodings_are_refused_by_their_nul_bytes() {
        assert_eq!(
            cells_in(&[b"\xff\xfe+\x001\x00\n\x00"]),
            Err(CsvError::NulByte(1))
        );
        assert_eq!(
            cells_in(&[b"to\n+1\n\n+", b"2", b"\0"]),
            Err(CsvError::NulByte(4))
        );
        assert!(!cells_in(&[b"caf\xe9\n+1"]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_cut_anywhere_read_the_same(
            bytes in proptest::collection::vec(
                prop_oneof![
                    4 => proptest::sample::select(b"+12,;\"\r\n\tto".to_vec()),
                    1 => any::<u8>(),
                ],
                0..400,
            ),
            mark in any::<bool>(),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let mut file = if mark { BYTE_ORDER_MARK.to_vec() } else { Vec::new() };
            file.extend(bytes);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(file.len())).collect();
            cuts.extend([0, file.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &file[w[0]..w[1]]).collect();
            let bytewise: Vec<&[u8]> = file.chunks(1).collect();
            let whole = cells_in(&[&file]);
            prop_assert_eq!(&cells_in(&chunks), &whole);
            prop_assert_eq!(&cells_in(&bytewise), &whole);
        }
    }
}
