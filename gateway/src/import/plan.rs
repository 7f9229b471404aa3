//! What is to be imported and how it is read, decided before the first row.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rows::{Position, RowCutter, RowReader};
use super::source::Source;
use crate::csv::{Columns, HEADER_BYTES_MAX, HeaderError, Override, guess_delimiter};

/// What somebody asks for besides the file; what is left out is guessed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub format: Option<FormatName>,
    pub delimiter: Option<u8>,
    pub overrides: Vec<Override>,
    /// The only user whose events are taken; also that of rows that name none.
    pub user: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    Csv,
    Ndjson,
}

/// How the file's rows become JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    Csv { delimiter: u8, columns: Columns },
    Ndjson,
}

/// A file with everything that is known of it before its first row.
#[derive(Debug)]
pub struct Plan {
    pub source: Source,
    pub format: Format,
    pub user: Option<String>,
    /// Where the first row begins.
    pub(super) begin: Position,
}

/// Why a file cannot be imported as it is.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("read {}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(
        "this is one JSON array; put one event on each line, for example with `jq -c '.[]'`, and \
         import that"
    )]
    JsonArray,
    #[error("columns are mapped in CSV only; the members of NDJSON go by their names")]
    NothingToMap,
}

impl Plan {
    /// Reads the beginning of the file.
    pub fn of(source: Source, settings: &Settings) -> Result<Self, PlanError> {
        let path = source.path.clone();
        Self::read(source, settings).map_err(|error| match error {
            Failure::Io(source) => PlanError::Io { path, source },
            Failure::Plan(error) => error,
        })
    }

    fn read(source: Source, settings: &Settings) -> Result<Self, Failure> {
        let beginning = source.beginning()?;
        let format = settings.format.unwrap_or_else(|| guess_format(&beginning, &source));
        let user = settings.user.clone();
        if format == FormatName::Ndjson {
            if !settings.overrides.is_empty() {
                return Err(PlanError::NothingToMap.into());
            }
            if first_byte(&beginning) == Some(b'[') {
                return Err(PlanError::JsonArray.into());
            }
            return Ok(Self { source, format: Format::Ndjson, user, begin: Position::default() });
        }
        let delimiter = settings.delimiter.unwrap_or_else(|| guess_delimiter(&beginning));
        let cutter = RowCutter::table(delimiter);
        // Compressed, a first row without an end may be a thousand times its file.
        let bytes_max = HEADER_BYTES_MAX as u64;
        let beginning = source.read_from(0, &Arc::default())?.take(bytes_max);
        let mut rows = RowReader::new(beginning, cutter, Position::default());
        let header = rows.header()?.ok_or(HeaderError::Empty)?;
        let row = header.rows().next().ok_or(HeaderError::Empty)?;
        if row.is_too_long() || header.end.byte >= bytes_max {
            return Err(HeaderError::TooLong.into());
        }
        let columns = Columns::of(row.cells(), &settings.overrides, user.is_some())?;
        Ok(Self { source, format: Format::Csv { delimiter, columns }, user, begin: header.end })
    }

    pub(super) fn cutter(&self) -> RowCutter {
        match &self.format {
            Format::Ndjson => RowCutter::lines(),
            Format::Csv { delimiter, .. } => RowCutter::table(*delimiter),
        }
    }

    /// Differs where the same bytes would become other events.
    pub(super) fn reading(&self) -> String {
        let user = self.user.as_deref().unwrap_or_default();
        match &self.format {
            Format::Ndjson => format!("ndjson {user:?}"),
            Format::Csv { delimiter, columns } => {
                let columns = columns.iter().map(|it| format!("{}={}", it.name, it.becomes));
                let columns = columns.collect::<Vec<_>>().join("\n");
                format!("csv {:?} {user:?}\n{columns}", char::from(*delimiter))
            }
        }
    }
}

enum Failure {
    Io(io::Error),
    Plan(PlanError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<HeaderError> for Failure {
    fn from(error: HeaderError) -> Self {
        Self::Plan(error.into())
    }
}

/// By how it looks; a header that begins with a brace would be an odd one.
fn guess_format(beginning: &[u8], source: &Source) -> FormatName {
    let is_table = source.path.to_string_lossy().to_lowercase();
    let is_table = [".csv", ".tsv"].iter().any(|end| is_table.contains(end));
    match first_byte(beginning) {
        Some(b'{' | b'[') if !is_table => FormatName::Ndjson,
        _ => FormatName::Csv,
    }
}

fn first_byte(text: &[u8]) -> Option<u8> {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).trim_ascii_start().first().copied()
}
