//! Tables as events: rows cut into cells, a header as members, a row as the JSON that the parser reads.

mod cells;
mod columns;

pub use self::cells::{Cells, Cut, Cutter, Mark, guess_delimiter};
pub use self::columns::{Column, Columns, HEADER_BYTES_MAX, HeaderError, Override, RowError};
