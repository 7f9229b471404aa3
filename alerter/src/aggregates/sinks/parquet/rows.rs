//! Windows as a Parquet file: the columns of the table `action_aggregates`, and each row's offset.

use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::aggregates::total::Aggregate;

/// Says in a file's footer at which offset the next file begins.
const NEXT_OFFSET: &str = "tallyman.next_offset";

/// A record of the topic as a row.
pub struct Row {
    offset: i64,
    start: Timestamp,
    end: Timestamp,
    aggregate: Aggregate,
}

impl Row {
    pub fn of(offset: i64, value: &[u8]) -> anyhow::Result<Self> {
        let aggregate: Aggregate = serde_json::from_slice(value)?;
        let start = aggregate.window_start.parse()?;
        let end = aggregate.window_end.parse()?;
        Ok(Self { offset, start, end, aggregate })
    }
}

/// One file of these rows; the next one begins at `end`.
pub fn encode(rows: &[Row], end: i64) -> Result<Vec<u8>, ParquetError> {
    let schema = Arc::new(parse_message_type(include_str!("schema.txt"))?);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_key_value_metadata(Some(vec![KeyValue::new(NEXT_OFFSET.to_owned(), end.to_string())]));
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    Columns { group: file.next_row_group()?, rows }.write()?;
    file.into_inner()
}

/// Where the next file begins, by what the footer of this one says.
pub fn end(file: &impl ChunkReader) -> anyhow::Result<i64> {
    let footer = ParquetMetaDataReader::new().parse_and_finish(file)?;
    let told = footer.file_metadata().key_value_metadata().into_iter().flatten();
    let end = told.filter(|it| it.key == NEXT_OFFSET).find_map(|it| it.value.as_deref());
    let end = end.with_context(|| format!("its footer does not tell {NEXT_OFFSET}"))?;
    end.parse().with_context(|| format!("{NEXT_OFFSET} is no offset: {end}"))
}

struct Columns<'a> {
    group: SerializedRowGroupWriter<'a, Vec<u8>>,
    rows: &'a [Row],
}

impl Columns<'_> {
    /// In the order of the schema.
    fn write(mut self) -> Result<(), ParquetError> {
        self.add::<Int64Type>(|row| Some(row.offset))?;
        self.add::<Int64Type>(|row| Some(row.start.as_millisecond()))?;
        self.add::<Int64Type>(|row| Some(row.end.as_millisecond()))?;
        self.add_text(|it| Some(&it.source))?;
        self.add_text(|it| Some(&it.event_type))?;
        self.add_text(|it| it.object_type.as_deref())?;
        self.add_text(|it| it.object_id.as_deref())?;
        self.add::<Int64Type>(|row| Some(row.aggregate.count as i64))?;
        self.add::<Int64Type>(|row| Some(row.aggregate.users as i64))?;
        self.add::<DoubleType>(|row| Some(row.aggregate.users_error))?;
        self.group.close().map(drop)
    }

    fn add<T: DataType>(
        &mut self,
        value: impl Fn(&Row) -> Option<T::T>,
    ) -> Result<(), ParquetError> {
        let cells: Vec<_> = self.rows.iter().map(value).collect();
        // Parquet keeps apart which cells have a value, and the values.
        let levels: Vec<_> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
        let values: Vec<_> = cells.into_iter().flatten().collect();
        let mut column = self.group.next_column()?.expect("the schema has as many columns");
        column.typed::<T>().write_batch(&values, Some(&levels), None)?;
        column.close()
    }

    fn add_text(&mut self, value: impl Fn(&Aggregate) -> Option<&str>) -> Result<(), ParquetError> {
        self.add::<ByteArrayType>(|row| value(&row.aggregate).map(ByteArray::from))
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    const WINDOW: &str = r#"{"windowStart":"2026-11-18T11:06:00.000Z","windowEnd":"2026-11-18T11:07:00.000Z","source":"http","type":"login","count":2,"users":1,"usersError":0.0}"#;

    #[test]
    fn a_file_has_the_rows_and_tells_where_the_next_begins() {
        let with_object =
            WINDOW.replace(r#","count""#, r#","objectType":"post","objectId":"7","count""#);
        let rows = [WINDOW, &with_object].map(|it| Row::of(41, it.as_bytes()).unwrap());
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&path, encode(&rows, 43).unwrap()).unwrap();
        let open = || std::fs::File::open(&path).unwrap();
        assert_eq!(end(&open()).unwrap(), 43);
        let reader = SerializedFileReader::new(open()).unwrap();
        let texts: Vec<_> =
            reader.get_row_iter(None).unwrap().map(|it| it.unwrap().to_string()).collect();
        let text = r#"{offset: 41, window_start: 2026-11-18 11:06:00.000 +00:00, window_end: 2026-11-18 11:07:00.000 +00:00, source: "http", event_type: "login", object_type: null, object_id: null, count: 2, users: 1, users_error: 0E0}"#;
        assert_eq!(texts[0], text);
        assert!(texts[1].contains(r#"object_type: "post", object_id: "7""#), "{}", texts[1]);
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for value in ["", "{}", &WINDOW.replace("2026-11-18T11:06", "then")] {
            assert!(Row::of(1, value.as_bytes()).is_err(), "{value}");
        }
    }
}
