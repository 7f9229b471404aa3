//! What `count.lua` is given for one step: its sums by sorted set, all texts in one buffer.

use std::fmt::{Display, Write as _};
use std::ops::Range;

use bytes::Bytes;
use common::keys;
use fred::types::{Key, Value};

use super::digest::Digest;
use super::steps::Step;

/// Keys and arguments of a call, in the order that the script expects.
#[derive(Debug, Default)]
pub struct Call {
    text: String,
    keys: Vec<Range<usize>>,
    args: Vec<Range<usize>>,
}

impl Call {
    /// Under an epoch, for a source and the offset it began at.
    pub fn new(epoch: &str, source: i32, start_offset: i64, digest: &Digest, step: &Step) -> Self {
        let mut call = Self::default();
        call.key(|out| out.push_str(keys::COUNTERS));
        call.arg(epoch);
        call.arg(source);
        for offset in [start_offset, step.range.start, step.range.end] {
            call.arg(offset);
        }
        let names = |(object, event_type): &(u32, u32)| {
            let [object_type, id] = digest.objects.columns(*object);
            let [event_type] = digest.event_types.columns(*event_type);
            (object_type, event_type, id)
        };
        let mut sums: Vec<_> =
            step.counts.iter().map(|(places, count)| (names(places), *count)).collect();
        // Whose members are neighbours are neighbours in the sorted set.
        sums.sort_unstable();
        for sums in sums.chunk_by(|((a, b, _), _), ((c, d, _), _)| (a, b) == (c, d)) {
            let (object_type, event_type, _) = sums[0].0;
            let action = keys::action(event_type);
            call.key(|out| out.push_str(&keys::top(object_type, event_type)));
            call.arg(sums.len());
            call.arg(action.len());
            for ((_, _, id), count) in sums {
                call.key(|out| {
                    keys::write_member(object_type, id, out);
                    out.push_str(&action);
                });
                call.arg(count);
            }
        }
        call
    }

    fn key(&mut self, write: impl FnOnce(&mut String)) {
        let from = self.text.len();
        write(&mut self.text);
        self.keys.push(from..self.text.len());
    }

    fn arg(&mut self, arg: impl Display) {
        let from = self.text.len();
        write!(self.text, "{arg}").expect("a string takes everything");
        self.args.push(from..self.text.len());
    }

    /// Parts of the buffer: a string each would be two allocations each, and a clone of it more.
    pub fn parts(self) -> (Vec<Key>, Vec<Value>) {
        let text = Bytes::from(self.text);
        let keys = self.keys.into_iter().map(|it| text.slice(it).into()).collect();
        let args = self.args.into_iter().map(|it| Value::Bytes(text.slice(it))).collect();
        (keys, args)
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::tests::digest;
    use super::super::steps::steps;
    use super::*;

    #[test]
    fn sums_lie_behind_their_sorted_set() {
        let on = |kind, id| Some((kind, id));
        let deeds = [(10, on("post", "b")), (11, on("a:b", "7")), (12, on("post", "b"))];
        let digest = digest(10..20, &[&deeds[..], &[(13, on("post", "a"))]].concat());
        let [step] = &steps(&digest)[..] else { panic!("one step") };
        let (keys, args) = Call::new("1-1", 7, 5, &digest, step).parts();
        let keys: Vec<_> = keys.iter().map(|it| it.as_str_lossy().into_owned()).collect();
        let args: Vec<_> = args.into_iter().map(|it| it.into_string().unwrap()).collect();
        let top = ["top_a%3Abs", "a%3Ab:7:likes", "top_posts", "post:a:likes", "post:b:likes"];
        assert_eq!(keys, [&[keys::COUNTERS][..], &top].concat());
        assert_eq!(args, ["1-1", "7", "5", "10", "20", "1", "6", "1", "2", "6", "1", "2"]);
    }
}
