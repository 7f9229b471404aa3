//! A file as chunks of rows: whole rows in order, each with its place, in bounded memory.

use std::io::{self, Read};
use std::ops::Range;

use common::event::EVENT_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::csv::{Cells, Cut, Cutter, Mark};

/// A chunk ends with the row that reaches one of these.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNK_ROWS: usize = 2_000;

/// No event comes out of a longer row; what is behind it in memory is bounded by this.
const ROW_BYTES_MAX: usize = 2 * EVENT_BYTES_MAX;

/// What is kept of a row that is longer.
const TOO_LONG_BYTES_KEPT: usize = 1 << 10;

const READ_BYTES: usize = 128 << 10;

/// A place between two rows of the decompressed file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub byte: u64,
    /// Line breaks before it.
    pub lines: u64,
    /// Rows before it, the header not counted.
    pub rows: u64,
}

/// How a file is cut into rows.
pub enum RowCutter {
    /// A row a line.
    Lines {
        in_row: bool,
    },
    Table(Box<Cutter>),
}

impl RowCutter {
    pub fn lines() -> Self {
        Self::Lines { in_row: false }
    }

    pub fn table(delimiter: u8) -> Self {
        Self::Table(Box::new(Cutter::new(delimiter)))
    }

    fn cut(&mut self, input: &[u8], cells: &mut Cells) -> (usize, Cut) {
        let in_row = match self {
            Self::Table(cutter) => return cutter.cut(input, cells),
            Self::Lines { in_row } => in_row,
        };
        if input.is_empty() {
            return (0, if std::mem::take(in_row) { Cut::Row } else { Cut::End });
        }
        let end = memchr::memchr(b'\n', input);
        *in_row = end.is_none();
        end.map_or((input.len(), Cut::More), |end| (end + 1, Cut::Row))
    }
}

/// Some rows, one behind the other.
#[derive(Default)]
pub struct Chunk {
    raw: Vec<u8>,
    rows: Vec<Row>,
    cells: Cells,
    /// Where the file goes on behind them.
    pub end: Position,
}

struct Row {
    raw: Range<usize>,
    cells: Range<Mark>,
    number: u64,
    line: u64,
    is_too_long: bool,
}

/// A row of a chunk.
#[derive(Clone, Copy)]
pub struct RowRef<'a> {
    chunk: &'a Chunk,
    row: &'a Row,
}

impl Chunk {
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RowRef<'_>> {
        self.rows.iter().map(|row| RowRef { chunk: self, row })
    }
}

impl<'a> RowRef<'a> {
    /// As it stands in the file, without its line break; only the beginning of one that is too long.
    pub fn raw(self) -> &'a [u8] {
        &self.chunk.raw[self.row.raw.clone()]
    }

    /// Of a table.
    pub fn cells(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.chunk.cells.row(self.row.cells.start, self.row.cells.end)
    }

    /// Counted from 1; neither the header nor blank lines count.
    pub fn number(self) -> u64 {
        self.row.number
    }

    /// Where it begins, counted from 1.
    pub fn line(self) -> u64 {
        self.row.line
    }

    pub fn is_too_long(self) -> bool {
        self.row.is_too_long
    }
}

/// Reads chunks.
pub struct RowReader<R> {
    source: R,
    buffer: Box<[u8]>,
    unread: Range<usize>,
    cutter: RowCutter,
    position: Position,
}

impl<R: Read> RowReader<R> {
    /// `source` is already at that position.
    pub fn new(source: R, cutter: RowCutter, position: Position) -> Self {
        Self { source, buffer: vec![0; READ_BYTES].into(), unread: 0..0, cutter, position }
    }

    /// The first row of a table as a chunk of its own, which counts as no row.
    pub fn header(&mut self) -> io::Result<Option<Chunk>> {
        let chunk = self.chunk_of(1)?;
        self.position.rows = 0;
        Ok(chunk.map(|chunk| Chunk { end: self.position, ..chunk }))
    }

    /// The next rows; none at the end.
    pub fn chunk(&mut self) -> io::Result<Option<Chunk>> {
        self.chunk_of(CHUNK_ROWS)
    }

    fn chunk_of(&mut self, rows_max: usize) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk::default();
        while chunk.rows.len() < rows_max && chunk.raw.len() < CHUNK_BYTES {
            if !self.row(&mut chunk)? {
                break;
            }
        }
        chunk.end = self.position;
        Ok((!chunk.rows.is_empty()).then_some(chunk))
    }

    /// Appends the next row, if there is one.
    fn row(&mut self, chunk: &mut Chunk) -> io::Result<bool> {
        loop {
            let (from, raw_from) = (chunk.cells.mark(), chunk.raw.len());
            let line_breaks_before = self.position.lines;
            let Some(is_too_long) = self.cut_one(chunk)? else { return Ok(false) };
            let raw = raw_from..chunk.raw.len();
            let Some(raw) = without_line_breaks(&chunk.raw, raw) else {
                chunk.raw.truncate(raw_from);
                chunk.cells.truncate(from);
                continue; // A blank line.
            };
            let skipped = &chunk.raw[raw_from..raw.start];
            self.position.rows += 1;
            chunk.rows.push(Row {
                line: line_breaks_before + line_breaks(skipped) + 1,
                number: self.position.rows,
                cells: from..chunk.cells.mark(),
                raw,
                is_too_long,
            });
            return Ok(true);
        }
    }

    /// Takes everything up to a row's end; says whether it was too long to be kept whole. `None`: there is no more.
    fn cut_one(&mut self, chunk: &mut Chunk) -> io::Result<Option<bool>> {
        let (cells_from, raw_from) = (chunk.cells.mark(), chunk.raw.len());
        let mut is_too_long = false;
        loop {
            self.fill()?;
            let input = &self.buffer[self.unread.clone()];
            let (used, cut) = self.cutter.cut(input, &mut chunk.cells);
            let taken = &input[..used];
            self.position.byte += used as u64;
            self.position.lines += line_breaks(taken);
            if !is_too_long {
                chunk.raw.extend_from_slice(taken);
            }
            self.unread.start += used;
            if chunk.raw.len() - raw_from > ROW_BYTES_MAX {
                is_too_long = true;
                chunk.raw.truncate(raw_from + TOO_LONG_BYTES_KEPT);
            }
            if is_too_long {
                chunk.cells.truncate(cells_from);
            }
            match cut {
                Cut::Row => return Ok(Some(is_too_long)),
                Cut::End => return Ok(None),
                Cut::More => {}
            }
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        while self.unread.is_empty() {
            match self.source.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => self.unread = 0..read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn line_breaks(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// The part between leading and trailing line breaks; `None` if nothing else is there but blanks.
fn without_line_breaks(bytes: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let slice = &bytes[range.clone()];
    if slice.trim_ascii().is_empty() {
        return None;
    }
    let before = slice.iter().take_while(|byte| is_break(byte)).count();
    let behind = slice.iter().rev().take_while(|byte| is_break(byte)).count();
    Some(range.start + before..range.end - behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(text: &str, cutter: RowCutter) -> RowReader<&[u8]> {
        RowReader::new(text.as_bytes(), cutter, Position::default())
    }

    /// Number, line and text of every row.
    fn rows(reader: &mut RowReader<&[u8]>) -> Vec<(u64, u64, String)> {
        let mut rows = Vec::new();
        while let Some(chunk) = reader.chunk().unwrap() {
            let text = |row: RowRef<'_>| String::from_utf8_lossy(row.raw()).into_owned();
            rows.extend(chunk.rows().map(|row| (row.number(), row.line(), text(row))));
        }
        rows
    }

    fn as_expected(found: &[(u64, u64, String)], expected: &[(u64, u64, &str)]) {
        let found: Vec<_> = found.iter().map(|(n, line, text)| (*n, *line, &**text)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_are_numbered_as_an_editor_does_and_blank_ones_are_no_rows() {
        let mut reader = reader("{1}\n\n  \r\n{2}\r\n{3}", RowCutter::lines());
        as_expected(&rows(&mut reader), &[(1, 1, "{1}"), (2, 4, "{2}"), (3, 5, "{3}")]);
        assert_eq!(reader.position, Position { byte: 17, lines: 4, rows: 3 });
    }

    #[test]
    fn line_breaks_inside_quotes_count_as_lines_and_not_as_rows() {
        let table = "a,b\r\n\"x\ny\",1\r\n\r\nz,2\r\n";
        let mut reader = reader(table, RowCutter::table(b','));
        let header = reader.header().unwrap().unwrap();
        assert_eq!(header.rows().next().unwrap().cells().len(), 2);
        as_expected(&rows(&mut reader), &[(1, 2, "\"x\ny\",1"), (2, 5, "z,2")]);
    }

    #[test]
    fn reading_goes_on_from_the_end_of_any_chunk() {
        let table: String =
            (0..10_000).map(|n| format!("\"{n}\n\",{}\r\n", "x".repeat(n % 90))).collect();
        let mut whole = reader(&table, RowCutter::table(b','));
        let first = whole.chunk().unwrap().unwrap();
        let rest = rows(&mut whole);
        let at = first.end;
        let behind = &table.as_bytes()[at.byte as usize..];
        let mut resumed = RowReader::new(behind, RowCutter::table(b','), at);
        assert_eq!(rows(&mut resumed), rest);
        assert_eq!(first.rows().len() + rest.len(), 10_000);
    }

    #[test]
    fn a_row_without_an_end_is_not_kept_in_memory() {
        let table = format!("1,2\n\"{}", "x\n".repeat(ROW_BYTES_MAX));
        let mut reader = reader(&table, RowCutter::table(b','));
        let chunk = reader.chunk().unwrap().unwrap();
        let last = chunk.rows().last().unwrap();
        assert!(last.is_too_long());
        assert_eq!((last.number(), last.line()), (2, 2));
        assert!(last.raw().len() <= TOO_LONG_BYTES_KEPT);
        assert!(chunk.raw.capacity() <= 4 * ROW_BYTES_MAX);
    }
}
