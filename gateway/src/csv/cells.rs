//! Cuts a table into rows and cells, from input that comes in pieces.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// The cells of rows, one after the other, unquoted.
#[derive(Debug, Default)]
pub struct Cells {
    text: Vec<u8>,
    /// Where each cell ends in `text`, rows one after the other.
    ends: Vec<usize>,
}

/// Where a row begins or ends among the cells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    text: usize,
    ends: usize,
}

impl Cells {
    pub fn mark(&self) -> Mark {
        Mark { text: self.text.len(), ends: self.ends.len() }
    }

    /// Forgets what came after the mark.
    pub fn truncate(&mut self, to: Mark) {
        self.text.truncate(to.text);
        self.ends.truncate(to.ends);
    }

    /// The cells between two marks.
    pub fn row(&self, from: Mark, to: Mark) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut begin = from.text;
        self.ends[from.ends..to.ends].iter().map(move |&end| {
            let cell = &self.text[begin..from.text + end];
            begin = from.text + end;
            cell
        })
    }
}

/// How a step of the cutter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A whole row lies in the cells.
    Row,
    /// The input is used up in the middle of a row, or of the room for it.
    More,
    /// The input was empty, which says that there is no more, and so there is no more row.
    End,
}

/// Follows RFC 4180; takes any line ending, leaves blank lines out and a byte order mark away.
pub struct Cutter {
    reader: Reader,
    room: Box<[u8]>,
    ends: Box<[usize]>,
}

impl Cutter {
    pub fn new(delimiter: u8) -> Self {
        Self {
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            room: vec![0; 16 << 10].into(),
            ends: vec![0; 256].into(),
        }
    }

    /// Takes from the input up to the end of a row; says how many bytes that were. Empty input means the end.
    pub fn cut(&mut self, input: &[u8], cells: &mut Cells) -> (usize, Cut) {
        let (result, used, written, ended) =
            self.reader.read_record(input, &mut self.room, &mut self.ends);
        cells.text.extend_from_slice(&self.room[..written]);
        cells.ends.extend_from_slice(&self.ends[..ended]);
        let cut = match result {
            ReadRecordResult::Record => Cut::Row,
            ReadRecordResult::End => Cut::End,
            ReadRecordResult::InputEmpty
            | ReadRecordResult::OutputFull
            | ReadRecordResult::OutputEndsFull => Cut::More,
        };
        (used, cut)
    }
}

/// The delimiter that is there most often outside quotes; a comma where none is.
pub fn guess_delimiter(header: &[u8]) -> u8 {
    const DELIMITERS: [u8; 4] = *b",;\t|";
    let mut counts = [0_usize; DELIMITERS.len()];
    let mut quoted = false;
    for &byte in header {
        quoted ^= byte == b'"';
        if byte == b'\n' && !quoted {
            break;
        }
        if let Some(at) = DELIMITERS.iter().position(|it| *it == byte && !quoted) {
            counts[at] += 1;
        }
    }
    let most = counts.into_iter().max().unwrap_or(0);
    counts.iter().position(|count| *count == most).map_or(b',', |at| DELIMITERS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts the table as it comes in pieces of that size.
    fn rows(table: &str, piece: usize) -> Vec<Vec<String>> {
        let mut cutter = Cutter::new(b',');
        let mut cells = Cells::default();
        let mut rows = Vec::new();
        let mut pieces = table.as_bytes().chunks(piece);
        let mut input = pieces.next().unwrap_or_default();
        let mut from = cells.mark();
        loop {
            let (used, cut) = cutter.cut(input, &mut cells);
            input = &input[used..];
            match cut {
                Cut::End => return rows,
                Cut::Row => {
                    let row = cells.row(from, cells.mark());
                    rows.push(row.map(|it| String::from_utf8_lossy(it).into_owned()).collect());
                    from = cells.mark();
                }
                Cut::More => {}
            }
            if input.is_empty() {
                input = pieces.next().unwrap_or_default();
            }
        }
    }

    #[test]
    fn a_row_is_the_same_in_whatever_pieces_it_comes() {
        let table = "a,b\r\n\r\n\"x, \"\"y\"\"\n z\",2\n,\n3,\"\"";
        let expected = [["a", "b"], ["x, \"y\"\n z", "2"], ["", ""], ["3", ""]];
        for piece in [1, 2, 3, 7, 100] {
            assert_eq!(rows(table, piece), expected, "{piece}");
        }
    }

    #[test]
    fn a_row_with_more_cells_than_there_is_room_for_is_whole() {
        let cells = vec!["x".repeat(100); 1_000];
        assert_eq!(rows(&cells.join(","), 4_096), [cells]);
    }

    #[test]
    fn the_most_frequent_delimiter_is_guessed_and_quotes_do_not_count() {
        for (header, expected) in [
            ("a,b,c\n;;;;", b','),
            ("a;b;c,d", b';'),
            ("a\tb", b'\t'),
            ("\"a,b,c\"|d", b'|'),
            ("alone", b','),
        ] {
            assert_eq!(guess_delimiter(header.as_bytes()), expected, "{header}");
        }
    }
}
