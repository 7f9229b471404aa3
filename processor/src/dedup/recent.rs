//! The keys this process saw stored last, exactly: a copy that follows soon, as most do, needs
//! neither Redis nor Postgres.

use common::event::EventKey;

/// A set-associative cache: each key has one set to lie in, and the oldest of a full set goes first.
pub struct Recent {
    sets: Box<[Set]>,
    /// What Postgres said in another life does not count.
    generation: i64,
}

/// Two cache lines, so that a look-up costs two misses at most.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Set {
    keys: [EventKey; Set::WAYS],
}

impl Set {
    const WAYS: usize = 8;
    const EMPTY: Self = Self { keys: [Recent::NONE; Self::WAYS] };
}

impl Recent {
    /// Marks a free place. A client may send the nil UUID: it is never remembered.
    const NONE: EventKey = EventKey(0);

    /// Holds at most so many bytes; without a set to lie in nothing is remembered.
    pub fn new(bytes_max: usize) -> Self {
        let sets = bytes_max / size_of::<Set>();
        Self { sets: vec![Set::EMPTY; sets].into(), generation: 0 }
    }

    /// Whether the key was stored in this generation. No is no proof of the contrary.
    pub fn contains(&self, generation: i64, key: EventKey) -> bool {
        let set = self.place(key).and_then(|at| self.sets.get(at));
        self.generation == generation && set.is_some_and(|set| set.keys.contains(&key))
    }

    /// Remembers keys that are stored.
    pub fn insert(&mut self, generation: i64, keys: impl IntoIterator<Item = EventKey>) {
        if self.generation != generation {
            self.sets.fill(Set::EMPTY);
            self.generation = generation;
        }
        for key in keys {
            let Some(at) = self.place(key) else { continue };
            let keys = &mut self.sets[at].keys;
            if !keys.contains(&key) {
                keys.rotate_right(1);
                keys[0] = key;
            }
        }
    }

    /// Ids are hashes or UUIDs, of which some begin alike and clients may choose: Fibonacci hashing
    /// (Knuth, The Art of Computer Programming, 6.4) spreads them.
    fn place(&self, key: EventKey) -> Option<usize> {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let folded = (key.0 >> 64) as u64 ^ key.0 as u64;
        let spread = u128::from(folded.wrapping_mul(GOLDEN));
        let set = ((spread * self.sets.len() as u128) >> 64) as usize;
        (key != Self::NONE && set < self.sets.len()).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_found_and_nothing_else() {
        let mut recent = Recent::new(1 << 20);
        recent.insert(1, (1..1_000).map(EventKey));
        assert!((1..1_000).all(|key| recent.contains(1, EventKey(key))));
        assert!((1_000..9_000).all(|key| !recent.contains(1, EventKey(key))));
    }

    #[test]
    fn a_free_place_is_not_the_nil_uuid() {
        let mut recent = Recent::new(1 << 20);
        recent.insert(1, [EventKey(0)]);
        assert!(!recent.contains(1, EventKey(0)));
    }

    #[test]
    fn another_generation_knows_nothing() {
        let mut recent = Recent::new(1 << 20);
        recent.insert(1, [EventKey(7)]);
        assert!(!recent.contains(2, EventKey(7)));
        recent.insert(2, [EventKey(8)]);
        assert!(!recent.contains(2, EventKey(7)), "it was remembered in generation 1");
    }

    #[test]
    fn the_oldest_of_a_set_goes_first_and_a_repeated_key_takes_one_place() {
        let mut recent = Recent::new(size_of::<Set>());
        recent.insert(1, (1..=8).map(EventKey));
        recent.insert(1, [EventKey(1), EventKey(8)]);
        recent.insert(1, [EventKey(9)]);
        assert!(!recent.contains(1, EventKey(1)));
        assert!((2..=9).all(|key| recent.contains(1, EventKey(key))));
    }

    #[test]
    fn without_memory_nothing_is_remembered() {
        let mut recent = Recent::new(0);
        recent.insert(1, [EventKey(7)]);
        assert!(!recent.contains(1, EventKey(7)));
    }
}
