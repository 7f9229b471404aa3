//! The opaque text that says behind which event a page begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use crate::push::InvalidCursor;

/// The place of an event among all: its time, then its position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub occurred_at: Timestamp,
    pub src: i64,
}

impl Cursor {
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor::Malformed)?;
        let (numbers, []) = bytes.as_chunks::<8>() else { return Err(InvalidCursor::Malformed) };
        let &[at, src] = numbers else { return Err(InvalidCursor::Malformed) };
        let occurred_at = Timestamp::from_microsecond(i64::from_be_bytes(at));
        let occurred_at = occurred_at.map_err(|_| InvalidCursor::Malformed)?;
        Ok(Self { occurred_at, src: i64::from_be_bytes(src) })
    }

    pub fn encode(self) -> String {
        let numbers = [self.occurred_at.as_microsecond(), self.src].map(i64::to_be_bytes);
        URL_SAFE_NO_PAD.encode(numbers.as_flattened())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_anything_else_is_none() {
        let occurred_at = "2026-11-21T10:00:00.123Z".parse().unwrap();
        let cursor = Cursor { occurred_at, src: 7 << 44 | 3 };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        for wrong in ["", "x", "AAAA", "________________________"] {
            assert!(Cursor::decode(wrong).is_err(), "{wrong}");
        }
        assert!(Cursor::decode(&cursor.encode()[1..]).is_err());
    }
}
