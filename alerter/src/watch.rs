//! What one partition's task knows and makes of each action: counts, windows, findings. Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::notification::Notification;
use common::trace::TraceContext;

use crate::action::{Action, NotAnAction};
use crate::aggregates::partials::Partials;
use crate::notifier::{self, About};
use crate::rules::{Rules, SpikeRule};
use crate::state::{self, Likes, ObjectState, UnreadableState};
use crate::windows::{Clock, DISORDER, Now};

/// A window that is over is judged when no late action has changed its object for so long …
const SETTLE_MS: i64 = 1_000;
/// … but after this at the latest.
const SETTLE_MS_MAX: i64 = 4_000;

/// The objects of one partition.
pub struct Watch {
    rules: Arc<Rules>,
    /// What the windows of all objects together gain; none where nobody wants them.
    partials: Option<Partials>,
    clock: Clock,
    objects: HashMap<Arc<str>, ObjectState>,
    /// Objects with windows to be judged once these are over.
    open: BTreeMap<i64, Vec<Arc<str>>>,
    /// Objects with windows that are over, by the moment (of the steady clock) to look at them.
    settling: BTreeMap<i64, Vec<Arc<str>>>,
    changed: Vec<Arc<str>>,
    alerts: Vec<Alert>,
    /// Where the action being taken in stands in a trace.
    place: Option<TraceContext>,
    noticed: Noticed,
    key: String,
}

/// What is to be told, and where the way of the action that caused it stands in a trace.
#[derive(Debug)]
pub struct Alert {
    pub notification: Notification,
    /// None of a finding over a whole window.
    pub place: Option<TraceContext>,
}

/// What was noticed since it was asked for last, for the metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noticed {
    pub unreadable: u64,
    pub late: u64,
    pub uncounted: u64,
    pub windows_judged: u64,
}

/// What a transaction has to write.
#[derive(Debug, Default)]
pub struct Changes {
    pub alerts: Vec<Alert>,
    /// Key and value of what the windows gained.
    pub partials: Vec<(Vec<u8>, Vec<u8>)>,
    /// Key and value of each changed object.
    pub states: Vec<(Arc<str>, Vec<u8>)>,
}

impl Watch {
    pub fn new(rules: Arc<Rules>, partials: Option<Partials>, now: Now) -> Self {
        Self {
            clock: Clock::new(rules.timing, now),
            rules,
            partials,
            objects: HashMap::new(),
            open: BTreeMap::new(),
            settling: BTreeMap::new(),
            changed: Vec::new(),
            alerts: Vec::new(),
            place: None,
            noticed: Noticed::default(),
            key: String::new(),
        }
    }

    /// Takes in what an earlier run wrote of an object; a later record of a key replaces it.
    pub fn restore(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), UnreadableState> {
        match value {
            Some(value) => {
                let object = state::decode(key, value, self.rules.timing.window_ms)?;
                self.objects.insert(key.into(), object);
            }
            None => {
                self.objects.remove(key);
            }
        }
        Ok(())
    }

    /// After the last record is restored: the windows that the earlier run may not have judged. Any that is
    /// remembered may be one: late likes change old windows, too.
    pub fn resume(&mut self) {
        let count_min = self.rules.spike.count_min;
        for (key, object) in &mut self.objects {
            if let Some(likes) = &mut object.likes {
                judge_again(&mut self.open, key, likes, count_min);
            }
        }
    }

    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    /// Takes in one record.
    pub fn observe(&mut self, value: &[u8], place: Option<TraceContext>, now: Now) {
        self.place = place;
        if let Err(_not_an_action) = self.try_observe(value, now) {
            self.noticed.unreadable += 1;
        }
    }

    fn try_observe(&mut self, value: &[u8], now: Now) -> Result<(), NotAnAction> {
        let action = Action::parse(value)?;
        let occurred_at_ms = action.occurred_at_ms()?;
        if let Some(partials) = &mut self.partials {
            partials.add(&action, occurred_at_ms);
        }
        let at_ms = self.clock.hear(occurred_at_ms, now);
        let Some((object_type, object_id)) = action.object() else { return Ok(()) };
        self.key.clear();
        state::write_key(object_type, object_id, &mut self.key);
        let key = match self.objects.get_key_value(&*self.key) {
            Some((key, _)) => key.clone(),
            None => {
                let key: Arc<str> = Arc::from(&*self.key);
                self.objects.insert(key.clone(), ObjectState::new(at_ms));
                key
            }
        };
        self.count(&key, &action, at_ms);
        if action.event_type == SpikeRule::EVENT_TYPE {
            self.like(&key, at_ms, now);
        }
        Ok(())
    }

    /// Judges what is over. To be called after each batch, and now and then without one.
    pub fn close(&mut self, now: Now) {
        let first_open = self.clock.first_open();
        while let Some(entry) = self.open.first_entry()
            && *entry.key() < first_open
        {
            for key in entry.remove() {
                let likes = self.objects.get_mut(&key).and_then(|it| it.likes.as_deref_mut());
                if let Some(likes) = likes {
                    settle(&mut self.settling, &key, likes, now);
                }
            }
        }
        while let Some(entry) = self.settling.first_entry()
            && *entry.key() <= now.steady_ms
        {
            for key in entry.remove() {
                self.judge_settled(&key, first_open, now);
            }
        }
    }

    /// See [`Clock::is_quiet`] and [`Clock::follow_wall`].
    pub fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }

    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty() || !self.alerts.is_empty()
    }

    /// What is to be written now. When that fails, the whole of this is to be thrown away.
    pub fn take_changes(&mut self) -> Changes {
        let window_ms = self.rules.timing.window_ms;
        let mut changes = Changes {
            alerts: std::mem::take(&mut self.alerts),
            partials: self.partials.as_mut().map(Partials::take).unwrap_or_default(),
            states: Vec::with_capacity(self.changed.len()),
        };
        for key in self.changed.drain(..) {
            if let Some(object) = self.objects.get_mut(&key) {
                object.is_changed = false;
                changes.states.push((key, state::encode(object, window_ms)));
            }
        }
        changes
    }

    pub fn take_noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }

    fn count(&mut self, key: &Arc<str>, action: &Action<'_>, at_ms: i64) {
        let object = self.objects.get_mut(key).expect("the object was looked up");
        mark_changed(&mut self.changed, key, object);
        object.learn_owner(action);
        let Some(count) = object.count(&action.event_type) else {
            self.noticed.uncounted += 1;
            return;
        };
        if let Some(milestone) = self.rules.milestones.reached(count) {
            let about = About {
                object: state::object_of(key),
                event_type: &action.event_type,
                owner: object.owner(),
            };
            let notification = notifier::milestone(&about, milestone, at_ms);
            self.alerts.push(Alert { notification, place: self.place });
        }
        if object.born_by(at_ms) {
            self.reconsider(key);
        }
    }

    fn like(&mut self, key: &Arc<str>, at_ms: i64, now: Now) {
        let window = self.rules.timing.window_of(at_ms);
        let is_over = window < self.clock.first_open();
        self.judge_before(key, window.saturating_sub(DISORDER as i64));
        let object = self.objects.get_mut(key).expect("the object was looked up");
        let likes = object.likes.get_or_insert_default();
        if is_over {
            self.noticed.late += 1;
            likes.touched_ms = now.steady_ms;
        }
        let Some(count) = likes.windows.add(window) else { return };
        if count >= self.rules.spike.count_min && !likes.unjudged.contains(&window) {
            likes.unjudged.push(window);
            self.open.entry(window).or_default().push(key.clone());
        }
    }

    /// An earlier action made the object older: windows that had no past may have one now.
    fn reconsider(&mut self, key: &Arc<str>) {
        let object = self.objects.get_mut(key).expect("the object was looked up");
        if let Some(likes) = &mut object.likes {
            judge_again(&mut self.open, key, likes, self.rules.spike.count_min);
        }
    }

    /// In a replay an hour passes between two looks at the clock: windows are judged before the
    /// actions that follow push their past out of memory.
    fn judge_before(&mut self, key: &Arc<str>, window: i64) {
        let object = self.objects.get_mut(key).expect("the object was looked up");
        let Some(likes) = &mut object.likes else { return };
        if likes.unjudged.iter().any(|it| *it <= window) {
            self.judge(key, window + 1);
        }
    }

    fn judge_settled(&mut self, key: &Arc<str>, first_open: i64, now: Now) {
        let object = self.objects.get_mut(key);
        let Some(likes) = object.and_then(|it| it.likes.as_deref_mut()) else { return };
        let since_ms = likes.settling_since_ms.take().unwrap_or(now.steady_ms);
        let calm_at_ms = (likes.touched_ms + SETTLE_MS).min(since_ms + SETTLE_MS_MAX);
        if calm_at_ms > now.steady_ms {
            likes.settling_since_ms = Some(since_ms);
            self.settling.entry(calm_at_ms).or_default().push(key.clone());
            return;
        }
        self.judge(key, first_open);
    }

    /// Judges the windows of an object before `end` that changed, in their order.
    fn judge(&mut self, key: &Arc<str>, end: i64) {
        let Rules { timing, spike, .. } = &*self.rules;
        let object = self.objects.get_mut(key).expect("an object is never forgotten");
        let born = timing.window_of(object.born_ms());
        let Some(likes) = &mut object.likes else { return };
        let mut due: Vec<_> = likes.unjudged.extract_if(.., |it| *it < end).collect();
        due.sort_unstable();
        self.noticed.windows_judged += due.len() as u64;
        let mut fired = Vec::new();
        for window in due {
            if likes.cooldown.allows(window, spike.cooldown)
                && let Some(anomaly) = spike.judge(&likes.windows, born, window)
            {
                likes.cooldown.fire(window);
                fired.push((window, likes.windows.count(window), anomaly));
            }
        }
        for (window, observed, anomaly) in fired {
            mark_changed(&mut self.changed, key, object);
            let about = About {
                object: state::object_of(key),
                event_type: SpikeRule::EVENT_TYPE,
                owner: object.owner(),
            };
            let notification = notifier::spike(&about, timing, window, observed, anomaly);
            self.alerts.push(Alert { notification, place: None });
        }
    }
}

fn mark_changed(changed: &mut Vec<Arc<str>>, key: &Arc<str>, object: &mut ObjectState) {
    if !object.is_changed {
        object.is_changed = true;
        changed.push(key.clone());
    }
}

/// Has all windows of an object that are remembered and have likes enough judged, once they are over.
fn judge_again(
    open: &mut BTreeMap<i64, Vec<Arc<str>>>,
    key: &Arc<str>,
    likes: &mut Likes,
    count_min: u32,
) {
    let newest = likes.windows.newest();
    let length = likes.windows.counts().len() as i64;
    for window in newest - length + 1..=newest {
        if likes.windows.count(window) >= count_min && !likes.unjudged.contains(&window) {
            likes.unjudged.push(window);
            open.entry(window).or_default().push(key.clone());
        }
    }
}

/// Lets the windows of an object that are over wait for late actions to end.
fn settle(
    settling: &mut BTreeMap<i64, Vec<Arc<str>>>,
    key: &Arc<str>,
    likes: &mut Likes,
    now: Now,
) {
    if likes.settling_since_ms.is_none() {
        likes.settling_since_ms = Some(now.steady_ms);
        settling.entry(now.steady_ms + SETTLE_MS).or_default().push(key.clone());
    }
}

#[cfg(test)]
mod tests {
    use common::notification::Rule;
    use serde_json::json;

    use super::*;
    use crate::detector::farrington::Farrington;
    use crate::rules::Milestones;
    use crate::windows::Timing;

    const MINUTE_MS: i64 = 60_000;
    const START_MS: i64 = 1_795_000_000_000 / MINUTE_MS * MINUTE_MS;

    /// A watch and the steady clock; the wall clock is far behind what happens, as in a replay.
    fn notifications(watch: &mut Watch) -> Vec<Notification> {
        watch.take_changes().alerts.into_iter().map(|alert| alert.notification).collect()
    }

    struct Bench {
        watch: Watch,
        now: Now,
    }

    impl Bench {
        fn new() -> Self {
            let rules = Rules {
                timing: Timing { window_ms: MINUTE_MS, lateness_ms: 10_000, quiet_ms: 5_000 },
                milestones: Milestones::new(&[100]).unwrap(),
                spike: SpikeRule {
                    detector: Box::new(Farrington { p_value_max: 1e-6, ratio_min: 3.0 }),
                    count_min: 20,
                    baseline: 30,
                    history_min: 10,
                    cooldown: 30,
                },
            };
            let now = Now { wall_ms: START_MS + 86_400_000, steady_ms: 0 };
            Self { watch: Watch::new(Arc::new(rules), None, now), now }
        }

        fn act(&mut self, event_type: &str, post: &str, at_ms: i64) {
            let at = jiff::Timestamp::from_millisecond(at_ms).unwrap();
            let action = json!({
                "type": event_type, "userId": "u", "objectType": "post", "objectId": post,
                "occurredAt": at.to_string(),
            });
            self.watch.observe(action.to_string().as_bytes(), None, self.now);
        }

        fn likes(&mut self, post: &str, minute: i64, count: i64) {
            for it in 0..count {
                self.act("like", post, START_MS + minute * MINUTE_MS + it * 50_000 / count.max(1));
            }
        }

        /// Lets the steady clock run and looks what is over.
        fn wait(&mut self, ms: i64) {
            self.now.steady_ms += ms;
            self.watch.close(self.now);
        }

        /// Moves event time on, by an action on another post.
        fn reach(&mut self, minute: i64) {
            self.act("view", "other", START_MS + minute * MINUTE_MS);
        }

        /// The minutes and counts of the spikes told since the last time.
        fn spikes(&mut self) -> Vec<(i64, f64)> {
            let told = notifications(&mut self.watch);
            let spikes = told.iter().filter(|it| it.data.rule == Rule::Spike);
            let minute_of = |at: jiff::Timestamp| (at.as_millisecond() - START_MS) / MINUTE_MS;
            spikes.map(|it| (minute_of(it.data.window.unwrap().start), it.data.observed)).collect()
        }
    }

    #[test]
    fn a_window_is_judged_when_it_is_over_and_late_actions_have_ended() {
        let mut bench = Bench::new();
        (0..20).for_each(|minute| bench.likes("1", minute, 2));
        bench.likes("1", 20, 60);
        bench.reach(21);
        bench.wait(10_000);
        assert_eq!(bench.spikes(), [], "its lateness has not passed");
        bench.reach(22);
        bench.wait(0);
        assert_eq!(bench.spikes(), []);
        bench.wait(SETTLE_MS);
        assert_eq!(bench.spikes(), [(20, 60.0)]);
        bench.wait(60_000);
        assert_eq!(bench.spikes(), []);
    }

    #[test]
    fn actions_that_come_in_any_order_are_judged_together() {
        let mut bench = Bench::new();
        bench.reach(60);
        bench.likes("1", 20, 60);
        bench.wait(500);
        for minute in (0..20).rev() {
            bench.likes("1", minute, 3);
        }
        bench.wait(SETTLE_MS - 1);
        assert_eq!(bench.spikes(), []);
        bench.wait(1);
        assert_eq!(bench.spikes(), [(20, 60.0)]);
    }

    #[test]
    fn late_actions_without_end_do_not_put_off_the_judgement_for_ever() {
        let mut bench = Bench::new();
        bench.reach(60);
        (0..20).for_each(|minute| bench.likes("1", minute, 2));
        let mut waited = 0;
        while bench.spikes().is_empty() {
            bench.likes("1", 20, 30);
            bench.wait(100);
            waited += 100;
        }
        assert!(waited <= SETTLE_MS_MAX + 100, "{waited} ms");
    }

    #[test]
    fn a_replay_of_days_within_a_moment_is_judged_by_event_time() {
        let mut bench = Bench::new();
        bench.watch.clock().follow_wall(bench.now);
        for minute in 0..1_000 {
            bench.likes("1", minute, if minute == 500 { 60 } else { 2 });
        }
        assert_eq!(bench.spikes(), [(500, 60.0)]);
    }

    #[test]
    fn an_earlier_action_gives_a_window_the_past_it_lacked() {
        let mut bench = Bench::new();
        bench.likes("1", 20, 60);
        bench.reach(22);
        bench.wait(0);
        bench.wait(SETTLE_MS);
        assert_eq!(bench.spikes(), [], "a new post");
        bench.act("publish", "1", START_MS);
        bench.wait(0);
        bench.wait(SETTLE_MS);
        assert_eq!(bench.spikes(), [(20, 60.0)]);
    }

    #[test]
    fn a_restored_watch_goes_on_where_the_written_one_was() {
        let mut first = Bench::new();
        (0..20).for_each(|minute| first.likes("1", minute, 2));
        first.likes("1", 20, 59);
        let mut second = Bench::new();
        for (key, value) in first.watch.take_changes().states {
            second.watch.restore(&key, Some(&value)).unwrap();
        }
        second.watch.resume();
        second.likes("1", 20, 1);
        let told = notifications(&mut second.watch);
        assert_eq!(told[0].data.text, "Post 1 reached 100 likes");
        second.reach(22);
        second.wait(0);
        second.wait(SETTLE_MS);
        assert_eq!(second.spikes(), [(20, 60.0)]);
    }

    #[test]
    fn a_late_window_that_was_not_judged_before_the_restart_is_judged_after_it() {
        let mut first = Bench::new();
        (0..40).for_each(|minute| first.likes("1", minute, 2));
        first.wait(0);
        first.likes("1", 20, 60);
        let mut second = Bench::new();
        for (key, value) in first.watch.take_changes().states {
            second.watch.restore(&key, Some(&value)).unwrap();
        }
        second.watch.resume();
        second.reach(60);
        second.wait(0);
        second.wait(SETTLE_MS);
        assert_eq!(second.spikes(), [(20, 62.0)]);
    }

    #[test]
    fn each_changed_object_is_written_once() {
        let mut bench = Bench::new();
        bench.likes("1", 0, 5);
        bench.likes("2", 0, 5);
        bench.likes("1", 0, 5);
        assert_eq!(bench.watch.take_changes().states.len(), 2);
        assert!(!bench.watch.has_changes());
    }
}
