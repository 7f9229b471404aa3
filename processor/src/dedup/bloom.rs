//! The filter that guesses which keys were learnt, in generations by day; it also tells where the
//! markers of a key lie.

use std::collections::VecDeque;

use bloomfilter::Bloom;
use common::event::EventKey;
use jiff::Timestamp;

/// The namespace of Redis markers in which a key lies, if it was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Days since 1970 on which the key was learnt.
    pub day: i32,
    /// Each layer of a day holds a bounded number of keys, so that its buckets stay small.
    pub layer: u16,
}

struct Layer {
    place: Place,
    filter: Bloom<[u8; 16]>,
    keys: usize,
}

/// Filters of the last days, the newest first. Memory is bounded: the oldest layer goes first, and
/// its keys then cost a trip to the judge.
pub struct Generations {
    layers: VecDeque<Layer>,
    window_days: i32,
    layers_max: usize,
}

impl Generations {
    /// Keys of one layer: 64 per bucket of 65,536, so that two processes still share a listpack.
    pub const LAYER_KEYS: usize = 4 << 20;
    const FALSE_POSITIVES: f64 = 0.002;

    pub fn new(window_days: u32, bytes_max: usize) -> Self {
        let layer_bytes = Self::layer_filter().len() as usize / 8;
        Self {
            layers: VecDeque::new(),
            window_days: i32::try_from(window_days).unwrap_or(i32::MAX),
            layers_max: (bytes_max / layer_bytes).max(1),
        }
    }

    /// Where a key was learnt, if the filter does not err.
    pub fn find(&self, key: EventKey) -> Option<Place> {
        let bytes = key.as_bytes();
        self.layers.iter().find(|layer| layer.filter.check(&bytes)).map(|layer| layer.place)
    }

    /// Learns keys; returns those that were not known yet, with their places.
    pub fn insert(&mut self, keys: &[EventKey], now: Timestamp) -> Vec<(EventKey, Place)> {
        let day = i32::try_from(now.as_second().div_euclid(86_400)).unwrap_or(i32::MAX);
        self.layers.retain(|layer| layer.place.day > day - self.window_days);
        let mut learnt = Vec::with_capacity(keys.len());
        for key in keys {
            let bytes = key.as_bytes();
            self.open_layer(day);
            let mut layers = self.layers.iter_mut();
            let newest = layers.next().expect("a layer is open");
            let older = layers.any(|layer| layer.filter.check(&bytes));
            if older || newest.filter.check_and_set(&bytes) {
                continue;
            }
            newest.keys += 1;
            learnt.push((*key, newest.place));
        }
        learnt
    }

    pub fn len(&self) -> usize {
        self.layers.iter().map(|layer| layer.keys).sum()
    }

    /// The first layer takes keys then.
    fn open_layer(&mut self, day: i32) {
        let layer = match self.layers.front() {
            Some(newest) if newest.place.day == day => {
                let full = newest.keys >= Self::LAYER_KEYS;
                full.then(|| newest.place.layer.saturating_add(1))
            }
            _ => Some(0),
        };
        if let Some(layer) = layer {
            self.layers.truncate(self.layers_max - 1);
            let place = Place { day, layer };
            self.layers.push_front(Layer { place, filter: Self::layer_filter(), keys: 0 });
        }
    }

    fn layer_filter() -> Bloom<[u8; 16]> {
        Bloom::new_for_fp_rate(Self::LAYER_KEYS, Self::FALSE_POSITIVES)
            .expect("the size and the rate are constants that fit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(days: i64) -> Timestamp {
        Timestamp::from_second(days * 86_400).unwrap()
    }

    #[test]
    fn a_learnt_key_is_found_on_the_day_it_was_learnt() {
        let mut filter = Generations::new(7, 64 << 20);
        filter.insert(&[EventKey(7)], day(100));
        assert_eq!(filter.find(EventKey(7)), Some(Place { day: 100, layer: 0 }));
        assert_eq!(filter.find(EventKey(8)), None);
    }

    #[test]
    fn a_key_that_is_known_is_not_learnt_again() {
        let mut filter = Generations::new(7, 64 << 20);
        filter.insert(&[EventKey(7)], day(100));
        assert!(filter.insert(&[EventKey(7)], day(101)).is_empty());
    }

    #[test]
    fn a_day_outside_the_window_is_forgotten() {
        let mut filter = Generations::new(7, 64 << 20);
        filter.insert(&[EventKey(7)], day(100));
        filter.insert(&[EventKey(8)], day(107));
        assert_eq!(filter.find(EventKey(7)), None);
    }

    #[test]
    fn memory_is_bounded_by_letting_the_oldest_layer_go() {
        let mut filter = Generations::new(7, 1);
        filter.insert(&[EventKey(7)], day(100));
        filter.insert(&[EventKey(8)], day(101));
        assert_eq!(filter.find(EventKey(7)), None);
        assert_eq!(filter.find(EventKey(8)), Some(Place { day: 101, layer: 0 }));
    }
}
