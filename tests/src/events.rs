//! Events that a seed and a number decide, and what must hold once each of them was counted once.

use std::collections::{BTreeMap, BTreeSet};

use crate::random::Random;

const ACTIONS: [&str; 8] = ["like", "like", "like", "like", "view", "view", "share", "comment"];
const EVENTS_A_DAY: u64 = 3_200;

/// One distinct action, in one of the shapes in which producers send it.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which of its workload's distinct events this is; also the member `n` of its properties.
    pub n: u64,
    pub user_id: String,
    pub post_id: String,
    pub action: &'static str,
    /// The UTC day on which it occurred.
    pub day: String,
    /// The bytes, the same at every sending.
    pub json: String,
}

/// All the events of one seed.
#[derive(Debug, Clone)]
pub struct Workload {
    seed: u64,
}

impl Workload {
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The n-th distinct event: a few posts get most of the actions, so that milestones are reached.
    pub fn event(&self, n: u64) -> Event {
        let mut random = Random::of(self.seed.wrapping_mul(0x1_0000_0001) ^ (n << 20));
        let user_id = format!("u{}", random.below(2_000));
        let post_id = (random.unit().powi(4) * 200.0) as u64;
        let action = ACTIONS[random.index(ACTIONS.len())];
        let (day, time) = moment(n);
        let mut event =
            Event { n, user_id, post_id: post_id.to_string(), action, day, json: String::new() };
        event.json = self.told(&event, &time);
        event
    }

    /// A sequence of `length` sendings, a share of which repeats an earlier one.
    pub fn sendings(&self, length: usize, duplicate_percent: u64) -> Vec<Event> {
        let mut random = Random::of(self.seed ^ 0xd0b1e5);
        let distinct = length - length * duplicate_percent as usize / 100;
        let mut sent: Vec<Event> = Vec::with_capacity(length);
        let mut fresh = 0;
        while sent.len() < length {
            let left = length - sent.len();
            let repeats_left = left - (distinct - fresh);
            if fresh > 0 && random.index(left) < repeats_left {
                sent.push(sent[random.index(sent.len())].clone());
            } else {
                sent.push(self.event(fresh as u64));
                fresh += 1;
            }
        }
        sent
    }

    /// With a given id (plain or a UUID) or known by its telling members alone; in the house's
    /// names or in aliases.
    fn told(&self, event: &Event, time: &str) -> String {
        let Event { n, user_id, post_id, action, day, .. } = event;
        let seed = self.seed;
        let at = format!("{day}T{time}Z");
        match n % 4 {
            0 => format!(
                r#"{{"eventId":"event-{seed}-{n}","type":"{action}","userId":"{user_id}","postId":"{post_id}","occurredAt":"{at}","properties":{{"n":{n},"note":"a \"quoted\" note, ü"}}}}"#
            ),
            1 => format!(
                r#"{{"messageId":"{seed:08x}-0000-4000-8000-{n:012x}","event":"{action}","userId":"{user_id}","postId":{post_id},"timestamp":"{at}","n":{n}}}"#
            ),
            2 => format!(
                r#"{{"type":"{action}","userId":"{user_id}","postId":"{post_id}","occurredAt":"{at}","sessionId":"s{n}","n":{n},"tags":["a","b"]}}"#
            ),
            _ => format!(
                r#"{{"event_type":"{action}","user_id":"{user_id}","post_id":"{post_id}","created_at":"{at}","properties":{{"n":{n}}},"context":{{"app":"test"}}}}"#
            ),
        }
    }
}

/// The n-th moment of March 2026: no two events of a workload share one.
fn moment(n: u64) -> (String, String) {
    let day = 1 + n / EVENTS_A_DAY % 28;
    let second = n % EVENTS_A_DAY * (86_400 / EVENTS_A_DAY);
    let milli = n / (EVENTS_A_DAY * 28);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    (format!("2026-03-{day:02}"), format!("{hour:02}:{minute:02}:{:02}.{milli:03}", second % 60))
}

/// What must hold when each of these events was counted exactly once.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The numbers of the distinct events.
    pub events: BTreeSet<u64>,
    /// (post, action) → how often.
    pub counts: BTreeMap<(String, String), u64>,
    /// Day → who was active.
    pub daily_users: BTreeMap<String, BTreeSet<String>>,
}

impl Expected {
    pub fn of<'a>(sent: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut expected = Self::default();
        sent.into_iter().for_each(|event| expected.add(event));
        expected
    }

    /// Adds a sending; one that repeats an earlier one changes nothing.
    pub fn add(&mut self, event: &Event) {
        if self.events.insert(event.n) {
            *self.counts.entry((event.post_id.clone(), event.action.to_owned())).or_default() += 1;
            self.daily_users.entry(event.day.clone()).or_default().insert(event.user_id.clone());
        }
    }

    pub fn merge(&mut self, other: &[Event]) {
        other.iter().for_each(|event| self.add(event));
    }

    /// The milestones that were reached: (subject, milestone) → by how many kinds of action.
    pub fn milestones(&self) -> BTreeMap<(String, u64), u64> {
        let mut reached = BTreeMap::new();
        for ((post, _), count) in &self.counts {
            for milestone in [10, 100, 1_000, 10_000].into_iter().filter(|it| it <= count) {
                *reached.entry((format!("post/{post}"), milestone)).or_default() += 1;
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let json = |seed| {
            Workload::new(seed)
                .sendings(100, 20)
                .iter()
                .map(|it| it.json.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(json(1), json(1));
        assert_ne!(json(1), json(2));
    }

    #[test]
    fn the_share_of_duplicates_is_exact() {
        let sent = Workload::new(7).sendings(20_000, 20);
        assert_eq!(sent.len(), 20_000);
        assert_eq!(Expected::of(&sent).events.len(), 16_000);
    }

    #[test]
    fn every_shape_is_json_and_names_its_number() {
        for n in 0..200 {
            let event = Workload::new(3).event(n);
            let json: serde_json::Value = serde_json::from_str(&event.json).unwrap();
            let named = json.get("n").or_else(|| json["properties"].get("n"));
            assert_eq!(named, Some(&n.into()), "{}", event.json);
        }
    }

    #[test]
    fn milestones_of_all_sizes_are_reached() {
        let reached = Expected::of(&Workload::new(5).sendings(20_000, 20)).milestones();
        assert!(reached.keys().any(|(_, milestone)| *milestone == 1_000), "{reached:?}");
    }
}
