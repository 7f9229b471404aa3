//! A digest in steps for the counters: sub-ranges of offsets, each with what it adds up to.

use std::ops::Range;

use hashbrown::HashMap;

use super::digest::Digest;

/// The sums of a sub-range of offsets.
#[derive(Debug)]
pub struct Step {
    pub range: Range<i64>,
    /// By places of object and event type in the digest.
    pub counts: HashMap<(u32, u32), i64>,
}

/// Distinct counters of one step, each a call of a script: an unchunked one of 5,000 blocked Redis for
/// 87 ms (measured).
const COUNTERS_MAX: usize = 256;

/// Consecutive steps over the whole range; at least one.
pub fn steps(digest: &Digest) -> Vec<Step> {
    let begin = |range| Step { range, counts: HashMap::with_capacity(COUNTERS_MAX) };
    let mut done = Vec::new();
    let mut step = begin(digest.range.clone());
    for event in digest.events.iter().filter(|it| it.object > 0) {
        let counted = (event.object, event.event_type);
        if step.counts.len() == COUNTERS_MAX && !step.counts.contains_key(&counted) {
            let end = std::mem::replace(&mut step.range.end, event.offset);
            done.push(std::mem::replace(&mut step, begin(event.offset..end)));
        }
        *step.counts.entry(counted).or_default() += 1;
    }
    done.push(step);
    done
}

#[cfg(test)]
mod tests {
    use super::super::digest::tests::digest;
    use super::*;

    #[test]
    fn equal_actions_are_one_sum_and_those_on_nothing_are_none() {
        let post = |id| Some(("post", id));
        let digest =
            digest(10..20, &[(11, post("a")), (12, post("b")), (13, post("a")), (14, None)]);
        let [step] = &steps(&digest)[..] else { panic!("one step") };
        assert_eq!(step.range, 10..20);
        assert_eq!(step.counts, HashMap::from([((1, 1), 2), ((2, 1), 1)]));
    }

    #[test]
    fn steps_cover_the_range_without_a_gap_and_none_is_too_large() {
        let ids: Vec<_> = (0..1_000).map(|it| format!("p{}", it % 700)).collect();
        let deeds: Vec<_> =
            ids.iter().zip(0..).map(|(id, at)| (at * 10 + 3, Some(("post", &**id)))).collect();
        let steps = steps(&digest(0..10_000, &deeds));
        assert_eq!((steps[0].range.start, steps[steps.len() - 1].range.end), (0, 10_000));
        for pair in steps.windows(2) {
            assert_eq!(pair[0].range.end, pair[1].range.start);
        }
        assert!(steps.iter().all(|it| it.counts.len() <= COUNTERS_MAX && !it.range.is_empty()));
        assert_eq!(steps.iter().flat_map(|it| it.counts.values()).sum::<i64>(), 1_000);
    }
}
