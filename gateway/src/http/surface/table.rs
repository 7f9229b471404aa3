//! A table as a body: its header names the members, each row is an event, each problem names its line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::super::body::DECOMPRESSED_BYTES_MAX;
use super::super::error::ApiError;
use super::super::split::EVENTS_MAX;
use super::super::verdict::Reason;
use super::Events;
use crate::csv::{
    Cells, Columns, Cut, Cutter, HEADER_BYTES_MAX, HeaderError, Mark, RowError, guess_delimiter,
};

/// Where the rows of a submission stand, and which of them are none.
#[derive(Debug, Default)]
pub struct Table {
    /// The line that each row begins on, counted from 1.
    lines: Vec<usize>,
    broken: BTreeMap<usize, RowError>,
}

impl Table {
    /// Why the row at `index` cannot even be read.
    pub fn broken(&self, index: usize) -> Option<Reason> {
        let error = self.broken.get(&index)?;
        let pointer = Some(format!("/{index}"));
        Some(Reason { code: error.code(), pointer, detail: error.to_string().into() })
    }

    /// The reason with the line that people look for.
    pub fn located(&self, index: usize, reason: Reason) -> Reason {
        let detail = format!("line {}: {}", self.lines[index], reason.detail);
        Reason { detail: detail.into(), ..reason }
    }
}

/// The rows as the JSON that the parser reads; one that cannot become JSON is empty.
pub fn open(body: &[u8], is_user_known: bool) -> Result<(Events<'_>, Table), ApiError> {
    let mut rows = Rows::of(body);
    if rows.next().is_none() {
        return Err(ApiError::EmptyBody);
    }
    let invalid_header = |error: HeaderError| ApiError::Unreadable {
        code: "invalid_header",
        pointer: "",
        detail: error.to_string(),
    };
    if body.len() - rows.unread.len() > HEADER_BYTES_MAX {
        return Err(invalid_header(HeaderError::TooLong));
    }
    let columns = Columns::of(rows.cells(), &[], is_user_known).map_err(invalid_header)?;
    let (mut events, mut table) = (Vec::new(), Table::default());
    let mut json_bytes = 0;
    while let Some(line) = rows.next() {
        if events.len() == EVENTS_MAX {
            let more = 1 + std::iter::from_fn(|| rows.next()).count();
            return Err(ApiError::TooManyEvents { count: EVENTS_MAX + more });
        }
        let mut json = Vec::new();
        table.lines.push(line);
        if let Err(error) = columns.write_json(rows.cells(), &mut json) {
            table.broken.insert(events.len(), error);
            json.clear();
        }
        // Each row repeats the names: a few long ones would make gigabytes of a small body.
        json_bytes += json.len();
        if json_bytes > DECOMPRESSED_BYTES_MAX {
            return Err(ApiError::DecompressedTooLarge);
        }
        events.push(Cow::Owned(json));
    }
    if events.is_empty() { Err(ApiError::EmptyBatch) } else { Ok((events, table)) }
}

/// The rows of a table one after the other, without blank lines.
struct Rows<'a> {
    unread: &'a [u8],
    cutter: Cutter,
    cells: Cells,
    /// Line breaks before `unread`.
    breaks: usize,
}

impl<'a> Rows<'a> {
    fn of(body: &'a [u8]) -> Self {
        let cutter = Cutter::new(guess_delimiter(body));
        Self { unread: body, cutter, cells: Cells::default(), breaks: 0 }
    }

    /// Goes to the next row and says on which line it begins.
    fn next(&mut self) -> Option<usize> {
        loop {
            let (start, breaks_before) = (self.unread, self.breaks);
            self.cells.truncate(Mark::default());
            self.cut()?;
            let row = &start[..start.len() - self.unread.len()];
            self.breaks += count_breaks(row);
            let text = row.trim_ascii_start();
            if !text.is_empty() {
                let skipped = &row[..row.len() - text.len()];
                return Some(breaks_before + count_breaks(skipped) + 1);
            }
        }
    }

    fn cut(&mut self) -> Option<()> {
        loop {
            let (used, cut) = self.cutter.cut(self.unread, &mut self.cells);
            self.unread = &self.unread[used..];
            match cut {
                Cut::Row => return Some(()),
                Cut::End => return None,
                Cut::More => {}
            }
        }
    }

    fn cells(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.cells.row(Mark::default(), self.cells.mark())
    }
}

fn count_breaks(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(table: &str) -> (Vec<String>, Table) {
        let (events, table) = open(table.as_bytes(), false).unwrap();
        let texts = events.iter().map(|event| String::from_utf8(event.to_vec()).unwrap());
        (texts.collect(), table)
    }

    #[test]
    fn a_row_is_an_event_and_knows_its_line() {
        let (events, table) =
            opened("\u{feff}type;userId;price\r\n\r\nlike;u1;9.90\r\n\"a\nb\";u2;\r\n\nview;u3;1");
        assert_eq!(events.len(), 3);
        assert!(events[0].contains(r#""userId":"u1""#), "{}", events[0]);
        assert_eq!(table.lines, [3, 4, 7]);
    }

    #[test]
    fn a_row_with_other_cells_than_its_header_is_a_problem_of_its_own() {
        let (events, table) = opened("type,userId\nlike\nlike,u\n");
        assert_eq!((&*events[0], table.broken.len()), ("", 1));
        let reason = table.located(0, table.broken(0).unwrap());
        assert_eq!((reason.code, reason.pointer.as_deref()), ("cell_count", Some("/0")));
        assert!(reason.detail.starts_with("line 2: "), "{}", reason.detail);
        assert!(table.broken(1).is_none());
    }

    #[test]
    fn a_table_without_rows_or_the_columns_that_every_event_needs_is_refused() {
        for table in ["", "\n\n", "type,userId\n", "type,price\nlike,1\n"] {
            assert!(open(table.as_bytes(), false).is_err(), "{table}");
        }
        let long = "x".repeat(HEADER_BYTES_MAX);
        assert!(open(format!("type,userId,{long}\nlike,u,1\n").as_bytes(), false).is_err());
        let wide = (0..100).map(|it| format!("{it}{}", "x".repeat(2_000))).collect::<Vec<_>>();
        let row = format!("like,u{}\n", ",1".repeat(wide.len()));
        let table = format!("type,userId,{}\n{}", wide.join(","), row.repeat(200));
        let error = open(table.as_bytes(), false).err().unwrap();
        assert!(matches!(error, ApiError::DecompressedTooLarge), "{error}");
        let many = |count| format!("type,userId\n{}", "like,u\n".repeat(count));
        assert_eq!(opened(&many(EVENTS_MAX)).0.len(), EVENTS_MAX);
        let error = open(many(EVENTS_MAX + 2).as_bytes(), false).err().unwrap();
        assert!(error.to_string().contains("2002 events"), "{error}");
    }
}
