//! Answers that are still true, kept in Redis for all instances.

use std::time::Duration;

use bytes::Bytes;
use fred::prelude::{Client, KeysInterface};
use fred::types::Expiration;
use jiff::Timestamp;

use crate::redis::Impatient;

const PATIENCE: Duration = Duration::from_millis(20);
const KEPT_SECONDS: i64 = 3_600;
const BYTES_MAX: usize = 1 << 20;

/// An answer, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Of the question and of the events it is about: another version may have another answer.
    pub version: String,
    pub computed_at: Timestamp,
    pub json: Bytes,
}

pub struct Cache {
    pub redis: Impatient,
}

impl Cache {
    pub fn new(redis: Client) -> Self {
        Self { redis: Impatient::new(redis, PATIENCE) }
    }

    /// The kept answer, if it is of this version. Without Redis there is none.
    pub async fn find(&self, key: &str, version: &str) -> Option<Answer> {
        let kept = self.redis.ask(self.redis.client().get::<Option<Bytes>, _>(key)).await;
        read(&kept.ok()??).filter(|it| it.version == version)
    }

    pub async fn keep(&self, key: &str, answer: &Answer) {
        if answer.json.len() > BYTES_MAX {
            return;
        }
        let ends = Some(Expiration::EX(KEPT_SECONDS));
        let redis = self.redis.client();
        // It is worked out again where it could not be kept.
        let _unkept =
            self.redis.ask(redis.set::<(), _, _>(key, write(answer), ends, None, false)).await;
    }
}

/// Version and time, a line each, then the answer.
fn write(answer: &Answer) -> Bytes {
    let mut out = format!("{}\n{}\n", answer.version, answer.computed_at).into_bytes();
    out.extend_from_slice(&answer.json);
    out.into()
}

fn read(kept: &Bytes) -> Option<Answer> {
    let mut lines = kept.splitn(3, |byte| *byte == b'\n');
    let version = std::str::from_utf8(lines.next()?).ok()?.to_owned();
    let computed_at = std::str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    Some(Answer { version, computed_at, json: kept.slice_ref(lines.next()?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let json = Bytes::from_static(b"{\"a\":\n1}");
        let answer = Answer { version: "1-2".into(), computed_at: Timestamp::UNIX_EPOCH, json };
        assert_eq!(read(&write(&answer)), Some(answer));
        assert_eq!(read(&Bytes::from_static(b"1-2\nsoon\n{}")), None);
        assert_eq!(read(&Bytes::from_static(b"1-2")), None);
    }
}
