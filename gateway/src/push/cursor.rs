//! The opaque text that says how far a socket has come: the next offset of every partition.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::kafka::TopicId;

use super::stream::Stream;

/// The next offset of each partition.
pub type Positions = Arc<[i64]>;

/// A place in one life of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub stream: Stream,
    pub incarnation: Incarnation,
    pub at: Positions,
}

/// Tells a topic from a re-created one of its name: half of its id is enough for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation([u8; 8]);

impl From<TopicId> for Incarnation {
    fn from(id: TopicId) -> Self {
        Self(id.as_u64_pair().0.to_be_bytes())
    }
}

/// Why a text is no cursor to go on from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    #[error("the cursor cannot be read; send one exactly as it came in a message, or none")]
    Malformed,
    #[error("the cursor is one of another stream; send one that came from this one, or none")]
    OtherStream,
}

/// A topic with more partitions is not ours; a longer text is not read.
const PARTITIONS_MAX: usize = 10_000;

impl Cursor {
    pub fn decode(text: &str, stream: Stream) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor::Malformed)?;
        let (&letter, rest) = bytes.split_first().ok_or(InvalidCursor::Malformed)?;
        let told = Stream::ALL.into_iter().find(|it| it.letter() == letter);
        if told.ok_or(InvalidCursor::Malformed)? != stream {
            return Err(InvalidCursor::OtherStream);
        }
        let (incarnation, offsets) =
            rest.split_first_chunk::<8>().ok_or(InvalidCursor::Malformed)?;
        let at = read_offsets(offsets).ok_or(InvalidCursor::Malformed)?;
        Ok(Self { stream, incarnation: Incarnation(*incarnation), at: at.into() })
    }
}

pub fn encode(stream: Stream, incarnation: Incarnation, at: &[i64]) -> String {
    let mut bytes = Vec::with_capacity(9 + 4 * at.len());
    bytes.push(stream.letter());
    bytes.extend_from_slice(&incarnation.0);
    for offset in at {
        write_varint(offset.unsigned_abs(), &mut bytes);
    }
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Seven bits a byte, the lowest first; the last byte has no high bit.
fn write_varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn read_offsets(mut bytes: &[u8]) -> Option<Vec<i64>> {
    let mut offsets = Vec::new();
    while !bytes.is_empty() {
        let length = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let (varint, rest) = bytes.split_at(length);
        if length > 9 || offsets.len() == PARTITIONS_MAX {
            return None;
        }
        let number = varint.iter().rev().fold(0, |sum, byte| sum << 7 | i64::from(byte & 0x7f));
        offsets.push(number);
        bytes = rest;
    }
    (!offsets.is_empty()).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(at: &[i64]) -> Cursor {
        let incarnation = Incarnation([7; 8]);
        Cursor { stream: Stream::Notifications, incarnation, at: at.into() }
    }

    fn text(cursor: &Cursor) -> String {
        encode(cursor.stream, cursor.incarnation, &cursor.at)
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        for at in [&[0][..], &[1, 127, 128, 300], &[i64::MAX, 0, 1 << 40]] {
            let cursor = cursor(at);
            assert_eq!(Cursor::decode(&text(&cursor), Stream::Notifications), Ok(cursor));
        }
    }

    #[test]
    fn what_is_no_cursor_of_the_stream_is_refused() {
        let good = text(&cursor(&[1, 300]));
        let cut = &good[..good.len() - 1];
        for text in ["", "?", "bg", "0", cut, "////", &good[..8], &format!("{good}gA")] {
            let decoded = Cursor::decode(text, Stream::Notifications);
            assert_eq!(decoded, Err(InvalidCursor::Malformed), "{text}");
        }
        assert_eq!(Cursor::decode(&good, Stream::Events), Err(InvalidCursor::OtherStream));
    }
}
