//! Numbers that a seed decides, the same on every machine (SplitMix64).

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// An index of a slice of this length.
    pub fn index(&mut self, length: usize) -> usize {
        (self.number() % length as u64) as usize
    }

    /// Between 0 and 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The seed of a test: `TALLYMAN_SEED`, else one from the clock. It is printed, so that a failure
/// can be run again.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("TALLYMAN_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| Random::of(now_nanos()).below(1_000_000));
    println!("{test}: TALLYMAN_SEED={seed}");
    seed
}

/// A few letters that no other installation has.
pub fn fresh_id() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let unique = now_nanos() ^ (u64::from(std::process::id()) << 40);
    let mixed = Random::of(unique).number().wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
    format!("t{:08x}", mixed as u32)
}

fn now_nanos() -> u64 {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_1970.map_or(0, |it| it.as_nanos() as u64)
}
