//! Pages of dead letters, newest first: each with its reason, its place in the log, and its first bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;

use super::Pipeline;
use crate::stats::{LIMIT_DEFAULT, LIMIT_MAX, Params, StatsError};

/// What is shown of a value at most; the whole record is in the log.
const VALUE_BYTES_MAX: i32 = 4_096;

/// Which dead letters are asked for.
#[derive(Debug)]
pub struct DeadLetters {
    code: Option<String>,
    limit: usize,
    /// The id behind which the page begins.
    cursor: i64,
}

impl DeadLetters {
    pub fn read(query: &str) -> Result<Self, StatsError> {
        let params = Params::read(query, &[&["code", "limit", "cursor"]])?;
        Ok(Self {
            code: params.owned("code"),
            limit: params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?,
            cursor: params.parsed("cursor")?.unwrap_or(i64::MAX),
        })
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterPage {
    dead_letters: Vec<DeadLetter>,
    /// Where the next page begins; the last has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    as_of: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeadLetter {
    id: String,
    code: String,
    detail: String,
    /// Into the record's value (RFC 6901).
    pointer: String,
    /// `topic/partition/offset` of the record.
    origin: String,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// How long the whole value is; missing where the record has none.
    bytes: Option<i32>,
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<Value>,
}

/// The first 4,096 bytes: text as it is, anything else in base64.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Binary { base64: String },
}

impl Value {
    /// `is_cut`: its last character may be there in part.
    fn of(bytes: Vec<u8>, is_cut: bool) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => {
                let (whole, is_start) =
                    (error.utf8_error().valid_up_to(), error.utf8_error().error_len().is_none());
                let mut bytes = error.into_bytes();
                if is_cut && is_start {
                    bytes.truncate(whole);
                    return Self::of(bytes, false);
                }
                Self::Binary { base64: STANDARD.encode(bytes) }
            }
        }
    }
}

impl Pipeline {
    pub async fn dead_letters(&self, wanted: &DeadLetters) -> Result<DeadLetterPage, StatsError> {
        let mut client = self.pool.get().await?;
        let on = self.snapshot(&mut client).await?;
        let as_of = Timestamp::now();
        let statement = on.prepare_cached(include_str!("list_dead_letters.sql")).await?;
        let limit = wanted.limit as i64 + 1;
        let rows =
            on.query(&statement, &[&wanted.cursor, &wanted.code, &limit, &VALUE_BYTES_MAX]).await?;
        on.commit().await?;
        let mut dead_letters: Vec<_> = rows.iter().map(dead_letter).collect();
        let has_more = dead_letters.len() > wanted.limit;
        dead_letters.truncate(wanted.limit);
        let next = dead_letters.last().filter(|_| has_more).map(|it| it.id.clone());
        Ok(DeadLetterPage { dead_letters, next, as_of })
    }
}

fn dead_letter(row: &Row) -> DeadLetter {
    let (topic, partition): (&str, i32) = (row.get("topic"), row.get("partition"));
    let (value, bytes): (Option<Vec<u8>>, Option<i32>) = (row.get("value"), row.get("bytes"));
    DeadLetter {
        id: row.get::<_, i64>("id").to_string(),
        code: row.get("error_code"),
        detail: row.get("error_detail"),
        pointer: row.get("error_pointer"),
        origin: format!("{topic}/{partition}/{}", row.get::<_, i64>("record_offset")),
        received_at: row.get("received_at"),
        bytes,
        value: value.map(|it| Value::of(it, bytes.is_some_and(|all| all > VALUE_BYTES_MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_character_is_left_out_and_other_bytes_are_base64() {
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(Value::of("aé".into(), false), text("aé"));
        assert_eq!(Value::of(b"a\xc3".to_vec(), true), text("a"));
        assert_eq!(Value::of(b"a\xc3".to_vec(), false), Value::Binary { base64: "YcM=".into() });
        assert_eq!(Value::of(b"\xffab".to_vec(), true), Value::Binary { base64: "/2Fi".into() });
    }
}
