//! The events of the benchmarks: flat ones of about 500 bytes, decided by a seed and a number.

use std::fmt::Write;

const NAMES: [&str; 10] = [
    "page_view",
    "click",
    "play",
    "pause",
    "scroll",
    "add_to_cart",
    "purchase",
    "search",
    "login",
    "like",
];
const PLATFORMS: [&str; 4] = ["ios", "android", "web", "tv"];
const COUNTRIES: [&str; 8] = ["US", "DE", "BR", "IN", "JP", "GB", "FR", "MX"];
/// Of the duplicates, half repeat one of so many events before them.
const RECENT: u64 = 1_000;

/// Numbers that a seed decides (SplitMix64).
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

    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// Writes the n-th event of a seed; returns its user. A few users do most, contents are met alike.
pub fn write(seed: u64, n: u32, out: &mut String) -> String {
    let mut random = Random::of(seed << 32 | u64::from(n));
    let unit = (random.number() >> 11) as f64 / (1u64 << 53) as f64;
    let user = format!("u{:07}", (unit * unit * 200_000.0) as u32);
    let (x, h, id) = (random.number(), random.number(), random.number());
    let (second, milli) = (n / 50 % 86_400, n % 50 * 20);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let second = second % 60;
    let content = (x >> 8) % 50_000;
    let name = NAMES[(x % 10) as usize];
    let (platform, country) = (PLATFORMS[(x & 3) as usize], COUNTRIES[(x >> 3 & 7) as usize]);
    let (value, duration) = ((x & 0xf_ffff) as f64 / 100.0, x >> 20 & 0xffff);
    let browser = 100 + (x & 31);
    write!(
        out,
        r#"{{"event_id":"{id:016x}","userId":"{user}","content_id":"c{content:06}","event_name":"{name}","event_datetime":"2026-03-0{}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z","sid":"s{:012x}","value":{value:.2},"duration_ms":{duration},"platform":"{platform}","country":"{country}","app_version":"{}.{}.{}","is_logged_in":{},"url":"https://www.example.com/catalog/{:08x}/{:016x}?ref={:06x}&utm_source=newsletter","referrer":"https://search.example.net/q={h:016x}","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{browser}.0"}}"#,
        1 + x % 7,
        h >> 16,
        x & 7,
        x >> 5 & 15,
        x >> 9 & 31,
        x & 16 == 0,
        h as u32,
        x.rotate_left(32),
        h >> 40,
    )
    .expect("a string takes everything");
    user
}

/// Which event is sent when: a share repeats one sent before, half of those one of the last 1,000.
pub fn with_duplicates(seed: u64, sent: u32, duplicate_percent: u64) -> Vec<u32> {
    let mut random = Random::of(seed ^ 0xd0b1e5);
    let mut numbers: Vec<u32> = Vec::with_capacity(sent as usize);
    let mut fresh = 0;
    for at in 0..u64::from(sent) {
        if at > 0 && random.below(100) < duplicate_percent {
            let back = if random.below(2) == 0 { at.min(RECENT) } else { at };
            numbers.push(numbers[(at - 1 - random.below(back)) as usize]);
        } else {
            numbers.push(fresh);
            fresh += 1;
        }
    }
    numbers
}

/// How many different ones there are, numbered from 0 as they are.
pub fn distinct(numbers: &[u32]) -> u32 {
    numbers.iter().max().map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_about_five_hundred_bytes() {
        let mut all = String::new();
        for n in 0..1_000 {
            write(1, n, &mut all);
        }
        assert!((480..520).contains(&(all.len() / 1_000)), "{}", all.len() / 1_000);
    }

    #[test]
    fn a_fifth_repeats_an_earlier_one() {
        let numbers = with_duplicates(1, 100_000, 20);
        let share = distinct(&numbers) as f64 / 100_000.0;
        assert!((0.79..0.81).contains(&share), "{share}");
    }
}
