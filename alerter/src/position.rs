//! How far the input was read when the state was written: a record among the state, of the same
//! transaction, so that neither can be restored without the other.

use serde::{Deserialize, Serialize};

use crate::state::UnreadableState;

/// The key of the record. No object has it: theirs contain a colon.
pub const KEY: &str = "position";

#[derive(Serialize, Deserialize)]
struct PositionRecord {
    /// The first offset that is not in the state.
    next: i64,
}

pub fn encode(next: i64) -> Vec<u8> {
    serde_json::to_vec(&PositionRecord { next }).expect("a number becomes JSON")
}

pub fn decode(value: &[u8]) -> Result<i64, UnreadableState> {
    let read = serde_json::from_slice::<PositionRecord>(value);
    let damaged = |source| UnreadableState::Damaged { key: KEY.to_owned(), source };
    Ok(read.map_err(damaged)?.next)
}

/// How to end a transaction on the state of which Kafka has lost the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Commit(i64),
    Abort,
}

/// The position is the last record of a transaction: where the undecided ones do not end with it
/// (`left`), nobody has asked to commit them. Where they do, whoever wrote them was about to; only a
/// group's offset before it tells that this was refused.
pub fn ending(left: Option<i64>, committed: Option<i64>) -> Ending {
    match left {
        Some(next) if committed.is_none_or(|committed| next <= committed) => Ending::Commit(next),
        _ => Ending::Abort,
    }
}

/// A state and a group's offset that are not of the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    pub committed: i64,
    pub restored: i64,
}

/// Where to go on. The position decides, since the state is of its moment. A group's offset beyond
/// it, of a transaction that is over, tells that the state has lost its end. One that was lost, moved
/// back or is not decided yet is no harm.
pub fn agreed(committed: Option<i64>, restored: Option<i64>) -> Result<Option<i64>, Torn> {
    match (committed, restored) {
        (Some(committed), restored) if committed > restored.unwrap_or(0) => {
            Err(Torn { committed, restored: restored.unwrap_or(0) })
        }
        (_, restored) => Ok(restored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_back_and_is_no_object() {
        assert_eq!(decode(&encode(42)).unwrap(), 42);
        let mut key = String::new();
        crate::state::write_key("", "position", &mut key);
        assert_ne!(key, KEY);
    }

    #[test]
    fn what_hangs_is_committed_if_it_is_whole_and_the_group_has_not_refused_it() {
        assert_eq!(ending(Some(10), None), Ending::Commit(10), "the offset hangs too");
        assert_eq!(ending(Some(10), Some(10)), Ending::Commit(10), "the offset is committed");
        assert_eq!(ending(Some(10), Some(12)), Ending::Commit(10), "and what came after it");
        assert_eq!(ending(Some(10), Some(8)), Ending::Abort, "the offset was undone");
        assert_eq!(ending(None, None), Ending::Abort, "it was never finished");
        assert_eq!(ending(None, Some(8)), Ending::Abort);
    }

    #[test]
    fn a_state_that_lacks_its_end_is_not_taken() {
        assert_eq!(agreed(Some(10), Some(8)), Err(Torn { committed: 10, restored: 8 }));
        assert_eq!(agreed(Some(10), None), Err(Torn { committed: 10, restored: 0 }));
    }

    #[test]
    fn a_group_offset_that_is_lost_or_moved_back_repeats_nothing() {
        assert_eq!(agreed(None, Some(10)), Ok(Some(10)));
        assert_eq!(agreed(Some(3), Some(10)), Ok(Some(10)));
        assert_eq!(agreed(Some(10), Some(10)), Ok(Some(10)));
        assert_eq!(agreed(None, None), Ok(None));
        assert_eq!(agreed(Some(0), None), Ok(None));
    }
}
