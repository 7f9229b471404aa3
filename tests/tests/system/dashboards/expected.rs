//! What each panel must show after the story.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::Installation;

use super::story::{ACTIONS, MORE, REJECTED, REPEATED, UNREADABLE, WINDOW_SECONDS};

pub enum Expected {
    /// The rows of Postgres, or the lines of Redis.
    Exactly(Value),
    /// Each series by its name, and between which values it is.
    Series(Vec<(String, RangeInclusive<f64>)>),
}

impl Expected {
    pub fn check(&self, answers: &[Value]) -> anyhow::Result<()> {
        match self {
            Self::Exactly(expected) => {
                ensure!(
                    *expected == Value::from(answers.to_vec()),
                    "expected {expected}, found {answers:?}"
                );
            }
            Self::Series(expected) => {
                ensure!(answers.len() == expected.len(), "{} series: {answers:?}", expected.len());
                for (name, bounds) in expected {
                    let found = answers.iter().find(|it| it[0] == name.as_str());
                    let value =
                        found.with_context(|| format!("no {name} in {answers:?}"))?[1].as_f64();
                    let within = value.is_some_and(|it| bounds.contains(&it));
                    ensure!(within, "{name}: expected {bounds:?}, found {value:?}");
                }
            }
        }
        Ok(())
    }
}

/// By dashboard and title.
pub fn of_every_panel(tallyman: &Installation, programs: &[String]) -> BTreeMap<String, Expected> {
    let panels = history().into_iter().chain(now()).chain(pipeline(tallyman, programs));
    panels.map(|(panel, expected)| (panel.to_owned(), expected)).collect()
}

/// The lag of what has come and is not judged.
pub fn while_the_judge_waits() -> BTreeMap<String, Expected> {
    let more = MORE as f64;
    let panels = [
        ("pipeline: Lag in records", lags(more..=more)),
        // So many seconds at a record a second, fewer at more.
        ("pipeline: Lag in seconds", lags(f64::MIN_POSITIVE..=more)),
    ];
    panels.map(|(panel, expected)| (panel.to_owned(), expected)).into()
}

fn history() -> Vec<(&'static str, Expected)> {
    let at = |hour: &str, kind: &str, value: i64| {
        let time = format!("2026-03-{hour}:00:00+00:00");
        json!({"time": time, "metric": kind, "value": value})
    };
    let activity = json!([
        at("02T10", "like", 3),
        at("02T10", "other", 3),
        at("02T10", "type1", 1),
        at("02T10", "type2", 1),
        at("02T10", "type3", 1),
        at("02T10", "type4", 1),
        at("02T10", "type5", 1),
        at("02T10", "type6", 1),
        at("02T11", "like", 1),
        at("03T08", "like", 3),
        at("03T09", "like", 1),
        at("04T12", "view", 3),
        at("05T09", "like", 1),
        at("05T10", "like", 1),
        at("05T11", "like", 1),
    ]);
    let day = |day: &str| format!("2026-03-{day}T00:00:00");
    let likes = |on: &str, likes: i64, change: Option<i64>| json!({"time": day(on), "Likes": likes, "Change to the day before": change});
    let active = |on: &str, users: i64| json!({"time": day(on), "Users": users});
    let object = |name: &str, actions: i64| json!({"Object": name, "Actions": actions});
    let cohort = |day: &str, users: i64, after: [Option<i64>; 3]| {
        json!({"First day": format!("2026-03-{day}"), "Users": users, "Day 1": after[0], "Day 2": after[1],
               "Day 3": after[2], "Day 4": null, "Day 5": null, "Day 6": null, "Day 7": null})
    };
    let top = [("post 123", 11), ("post 1", 3), ("post 7", 3)]
        .map(|(name, actions)| object(name, actions));
    let top = top.into_iter().chain((1..=7).map(|n| object(&format!("product {n}"), 1)));
    vec![
        ("history: Activity per hour", Expected::Exactly(activity)),
        (
            "history: Likes a day",
            Expected::Exactly(json!([
                likes("02", 5, Some(150)),
                likes("03", 4, Some(-20)),
                likes("04", 0, Some(-100)),
                likes("05", 3, None),
            ])),
        ),
        (
            "history: Active users a day",
            Expected::Exactly(json!([
                active("02", 5),
                active("03", 4),
                active("04", 3),
                active("05", 3)
            ])),
        ),
        ("history: Top 10 objects of the month", Expected::Exactly(top.collect())),
        (
            "history: Retention",
            Expected::Exactly(json!([
                cohort("02", 4, [Some(50), Some(50), Some(25)]),
                cohort("03", 2, [Some(50), Some(50), None]),
                cohort("05", 1, [None, None, None]),
            ])),
        ),
    ]
}

fn now() -> Vec<(&'static str, Expected)> {
    let milestone = json!({
        "Time": "2026-03-05T10:00:00+00:00", "Severity": "info", "Rule": "milestone",
        "What happened": "Post 123 reached 10 likes", "Owner": null,
    });
    vec![
        ("now: Likes of post $post", Expected::Exactly(json!(["11"]))),
        ("now: Active users today", Expected::Exactly(json!(["3"]))),
        ("now: Live rate", series([("stored", rate(ACTIONS + MORE))])),
        ("now: Notifications", Expected::Exactly(json!([{"Notifications": 1}]))),
        (
            "now: How records end",
            series([
                ("stored", rate(ACTIONS + MORE)),
                ("duplicate", rate(REPEATED)),
                ("dead_lettered", rate(UNREADABLE)),
            ]),
        ),
        (
            "now: Top ten posts by likes",
            Expected::Exactly(json!(["post:123", "11", "post:7", "3"])),
        ),
        ("now: Last notifications", Expected::Exactly(json!([milestone]))),
    ]
}

fn pipeline(tallyman: &Installation, programs: &[String]) -> Vec<(&'static str, Expected)> {
    let up = programs.iter().map(|address| (address.clone(), 1.0..=1.0)).collect();
    let letters = UNREADABLE as f64;
    // What transactions end with are records too, a few to each.
    let marked = |count| *rate(count).start()..=2.0 * rate(count).end();
    let few = 0.0..=rate(100).end().to_owned();
    let topics = [
        ("user-actions", rate(ACTIONS + REPEATED + MORE + UNREADABLE)),
        ("unique-actions", marked(ACTIONS + MORE)),
        ("user-actions.dlq", marked(UNREADABLE)),
        ("notifications", few.clone()),
        ("tm.alerter-state", few),
    ];
    let topics = topics.map(|(name, bounds)| (tallyman.topic(name), bounds)).into();
    let ten_seconds = || f64::MIN_POSITIVE..=10.0;
    vec![
        ("pipeline: Programs", Expected::Series(up)),
        ("pipeline: Drift", Expected::Exactly(json!([{"Records": 0, "Offsets": 0}]))),
        ("pipeline: Dead letters", series([("dead letters", letters * 0.9..=letters * 1.25)])),
        ("pipeline: Counters", series([("counters", 0.0..=0.0)])),
        ("pipeline: Lag in records", lags(0.0..=0.0)),
        ("pipeline: Lag in seconds", lags(0.0..=0.0)),
        (
            "pipeline: Verdicts of the gateway",
            series([("accepted", rate(ACTIONS + REPEATED + MORE)), ("rejected", rate(REJECTED))]),
        ),
        (
            "pipeline: Duplicates by tier",
            series([("batch", 0.0..=0.0), ("recent", rate(REPEATED))]),
        ),
        ("pipeline: Dead letters by reason", series([("missing_type", rate(UNREADABLE))])),
        ("pipeline: Throughput per topic", Expected::Series(topics)),
        (
            "pipeline: 99th percentiles",
            series(["request", "batch", "judge", "alerter"].map(|it| (it, ten_seconds()))),
        ),
        ("pipeline: Broker: bytes", series(["in", "out"].map(|it| (it, 10.0..=1e6)))),
        (
            "pipeline: Broker: 99th percentiles",
            series(["Produce", "FetchConsumer"].map(|it| (it, ten_seconds()))),
        ),
        (
            "pipeline: Broker: partitions",
            series([("offline", 0.0..=0.0), ("under-replicated", 0.0..=0.0)]),
        ),
        ("pipeline: Broker: heap", series([("heap", 0.01..=1.0)])),
    ]
}

fn series<const N: usize>(series: [(&str, RangeInclusive<f64>); N]) -> Expected {
    Expected::Series(series.map(|(name, bounds)| (name.to_owned(), bounds)).into())
}

/// Only the ledger is behind: what is judged is followed.
fn lags(ledger: RangeInclusive<f64>) -> Expected {
    let nothing = || 0.0..=0.0;
    series([
        ("ledger", ledger),
        ("counters", nothing()),
        ("rollups", nothing()),
        ("relay", nothing()),
        ("alerter", nothing()),
    ])
}

/// So many a window. Prometheus extrapolates to the ends of what it has seen, and may have seen some of
/// the history come.
fn rate(count: usize) -> RangeInclusive<f64> {
    let exact = count as f64 / WINDOW_SECONDS;
    exact * 0.9..=exact * 1.25
}
