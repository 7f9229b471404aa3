//! Statistics over HTTP against a naive computation over random histories: late events, midnight, zones.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use common::postgres;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use processor::follow::folder::Deltas;
use serde_json::Value;
use tests::Installation;
use tests::history::{self, Asked, Happened};
use tests::random::{Random, seed};
use tests::send::{HttpSender, Raw};

/// Clocks change in some of them in these weeks.
const HISTORY_FROM: &str = "2026-03-06T00:00:00Z";
const HISTORY_DAYS: u64 = 32;
const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "-03:30",
];

/// A gateway and a processor, and what was sent to them.
struct World {
    tallyman: Installation,
    http: HttpSender,
    read_key: String,
    all: Vec<Happened>,
}

impl World {
    async fn new() -> anyhow::Result<(Self, [tests::Program; 2])> {
        let mut tallyman = Installation::new().await?;
        // The test folds by itself.
        tallyman.set("FOLD_SECONDS", "100000");
        let key = ["keys", "create", "--name", "reader", "--rights", "read"];
        let read_key = tallyman.run("gateway", &key).await?;
        let (gateway, http) = tallyman.start_gateway().await?;
        let processor = tallyman.start_processor()?;
        Ok((Self { tallyman, http, read_key, all: Vec::new() }, [gateway, processor]))
    }

    /// To random partitions, and until everything has followed.
    async fn send(&mut self, random: &mut Random, events: Vec<Happened>) -> anyhow::Result<()> {
        let records = (self.all.len()..).zip(&events).map(|(n, event)| Raw {
            partition: random.below(4) as i32,
            key: n.to_string(),
            value: Some(event.json(&format!("e{n}")).into_bytes()),
        });
        self.tallyman.produce(&records.collect::<Vec<_>>()).await?;
        self.all.extend(events);
        self.tallyman.wait_drained().await
    }

    async fn fold(&self) -> anyhow::Result<usize> {
        let url = self.tallyman.servers.database_url.as_str().into();
        let config =
            common::config::PostgresConfig { database_url: url, database_connections_max: 1 };
        Deltas::Statistics.fold(&mut postgres::pool(&config, "test")?.get().await?).await
    }

    /// What an erasure makes of a user's rows: they stay, under a name that nobody knows.
    async fn erase(&mut self, user: &str, token: &str) -> anyhow::Result<()> {
        let sql = format!(
            "update events set user_id = '{token}' where user_id = '{user}';
             update users set id = '{token}' where id = '{user}'"
        );
        self.tallyman.postgres().await?.run(&sql).await?;
        let theirs = self.all.iter_mut().filter(|it| it.user == user);
        theirs.for_each(|it| token.clone_into(&mut it.user));
        Ok(())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(path, &self.read_key).await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status == 200, "{path}: {status} {body}");
        let value: Value = serde_json::from_str(&body)?;
        let as_of: Timestamp = value["asOf"].as_str().context("no asOf")?.parse()?;
        ensure!(as_of > Timestamp::now() - SignedDuration::from_mins(10), "{path}: as of {as_of}");
        Ok(value)
    }

    /// Some questions of each kind, with any parameters.
    async fn check(&self, random: &mut Random, rounds: usize) -> anyhow::Result<()> {
        for _ in 0..rounds {
            self.check_dau(random).await?;
            self.check_activity(random).await?;
            self.check_top_events(random).await?;
            self.check_top_objects(random).await?;
            self.check_retention(random).await?;
            self.check_funnel(random).await?;
        }
        Ok(())
    }

    async fn check_dau(&self, random: &mut Random) -> anyhow::Result<()> {
        let (asked, query) = ask(random, &["type", "userId", "objectType", "objectId", "source"]);
        let unit = one(random, &["day", "day", "week", "month"]);
        let path = format!("/api/stats/dau?unit={unit}&{query}");
        let answer = self.get(&path).await?;
        let mut told = BTreeMap::new();
        let mut last = String::new();
        for item in answer["series"].as_array().context("no series")? {
            let day = item["day"].as_str().context("no day")?.to_owned();
            ensure!(day > last, "{path}: {day} after {last}");
            last.clone_from(&day);
            told.insert(day, item["users"].as_u64().context("no users")?);
        }
        told.retain(|_, users| *users > 0);
        same(&path, &told, &asked.dau(&self.all, unit))
    }

    async fn check_activity(&self, random: &mut Random) -> anyhow::Result<()> {
        let unit = one(random, &["minute", "hour", "day"]);
        let (mut asked, _) = ask(random, &["type", "userId", "objectType", "objectId", "source"]);
        if unit == "minute" {
            asked.to = asked.to.min(asked.from + SignedDuration::from_mins(1_439));
        }
        if unit == "hour" {
            // Its hours begin at half past where the naive computation knows no such thing.
            asked.zone = zone(one(random, &ZONES[..5]));
        }
        let by = one(random, &["", "type", "source"]);
        let path = format!("/api/stats/activity?unit={unit}&by={by}&{}", query(&asked));
        let answer = self.get(&path).await?;
        let mut told = BTreeMap::new();
        for item in answer["series"].as_array().context("no series")? {
            let start: Timestamp = item["start"].as_str().context("no start")?.parse()?;
            let group = item["by"].as_str().unwrap_or_default().to_owned();
            let number = |name: &str| item[name].as_u64().context("no number");
            told.insert((start, group), (number("count")?, number("users")?));
        }
        told.retain(|_, sums| *sums != (0, 0));
        same(&path, &told, &asked.activity(&self.all, unit, by))
    }

    async fn check_top_events(&self, random: &mut Random) -> anyhow::Result<()> {
        let (asked, _) = ask(random, &["userId", "objectType", "objectId", "source"]);
        self.compare_top_events(&asked).await
    }

    async fn compare_top_events(&self, asked: &Asked) -> anyhow::Result<()> {
        let path = format!("/api/stats/top-events?{}", query(asked));
        let answer = self.get(&path).await?;
        let items = answer["items"].as_array().context("no items")?;
        let counts: Vec<_> = items.iter().map(|it| it["count"].as_u64()).collect();
        ensure!(counts.is_sorted_by(|a, b| a >= b), "{path}: {counts:?}");
        let told = items.iter().map(|it| {
            let number = |name: &str| it[name].as_u64().context("no number");
            let name = it["type"].as_str().context("no type")?.to_owned();
            Ok((name, (number("count")?, number("users")?)))
        });
        let told = told.collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        same(&path, &told, &asked.top_events(&self.all))
    }

    async fn check_top_objects(&self, random: &mut Random) -> anyhow::Result<()> {
        let (asked, query) = ask(random, &["type", "userId", "objectType", "source"]);
        let limit = 1 + random.index(30);
        let path = format!("/api/stats/top-objects?limit={limit}&{query}");
        let answer = self.get(&path).await?;
        let told = answer["items"].as_array().context("no items")?.iter().map(|it| {
            let text = |name: &str| it[name].as_str().map(str::to_owned).context("no name");
            Ok((text("objectType")?, text("objectId")?, it["count"].as_u64().context("no count")?))
        });
        let told = told.collect::<anyhow::Result<Vec<_>>>()?;
        same(&path, &told, &asked.top_objects(&self.all, limit))
    }

    async fn check_retention(&self, random: &mut Random) -> anyhow::Result<()> {
        let (asked, query) = ask(random, &[]);
        let unit = one(random, &["day", "week"]);
        let path = format!("/api/stats/retention?unit={unit}&{query}");
        let answer = self.get(&path).await?;
        let cohorts = &answer["cohorts"];
        let days = history::members(cohorts, "day");
        let days: Vec<_> = days.iter().filter_map(|it| it.as_str()).map(str::to_owned).collect();
        let expected = asked.retention(&self.all, unit, &days);
        let told: Vec<Vec<u64>> = history::members(cohorts, "retained")
            .into_iter()
            .map(|it| serde_json::from_value(it.clone()))
            .collect::<Result<_, _>>()?;
        let sizes: Vec<_> =
            history::members(cohorts, "size").iter().map(|it| it.as_u64()).collect();
        let first: Vec<_> = told.iter().map(|it| it.first().copied()).collect();
        ensure!(sizes == first, "{path}: sizes {sizes:?}");
        same(&path, &told, &expected)
    }

    async fn check_funnel(&self, random: &mut Random) -> anyhow::Result<()> {
        let (asked, query) = ask(random, &["userId", "objectType", "objectId", "source"]);
        let steps = one(random, &["view,like,purchase", "view,view,like", "purchase", "like,view"]);
        let (within, span) = match random.below(3) {
            0 => ("1h", 1.hours()),
            1 => ("1d", 24.hours()),
            _ => ("90s", 90.seconds()),
        };
        let path = format!("/api/stats/funnel?steps={steps}&within={within}&{query}");
        let answer = self.get(&path).await?;
        let told = history::members(&answer["steps"], "users");
        let told: Vec<_> = told.iter().filter_map(|it| it.as_u64()).collect();
        let steps: Vec<_> = steps.split(',').collect();
        same(&path, &told, &asked.funnel(&self.all, &steps, span))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(path: &str, told: &T, expected: &T) -> anyhow::Result<()> {
    ensure!(told == expected, "{path}\n    told {told:?}\nexpected {expected:?}");
    Ok(())
}

fn one<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.index(of.len())]
}

fn zone(name: &str) -> TimeZone {
    match name {
        "-03:30" => TimeZone::fixed(jiff::tz::Offset::from_seconds(-12_600).expect("an offset")),
        "UTC" => TimeZone::UTC,
        name => TimeZone::get(name).expect("a zone"),
    }
}

/// A range by days, or by any two moments, and some of the filters.
fn ask(random: &mut Random, filters: &[&'static str]) -> (Asked, String) {
    let begin: Timestamp = HISTORY_FROM.parse().expect("an instant");
    let zone = zone(one(random, &ZONES));
    let first = begin.to_zoned(zone.clone()).date();
    let day = |at: u64| {
        let day = first + (at as i64).days();
        day.to_zoned(zone.clone()).and_then(|it| it.start_of_day()).expect("a day").timestamp()
    };
    let (mut from, mut to) = (random.below(HISTORY_DAYS), 1 + random.below(HISTORY_DAYS));
    if from >= to {
        (from, to) = (to - 1, from + 1);
    }
    let (mut from, mut to) = (day(from), day(to));
    if random.below(3) == 0 {
        let hour_us = 3_600_000_000;
        from += SignedDuration::from_micros(random.below(hour_us * 9) as i64);
        to += SignedDuration::from_micros(random.below(hour_us) as i64);
    }
    let values: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("type", &["view", "like", "never"][..]),
        ("userId", &["u0", "u3", "nobody"][..]),
        ("objectType", &["post", "product"][..]),
        ("objectId", &["1", "x2", "none"][..]),
        ("source", &["web", "app"][..]),
    ]);
    let mut chosen = BTreeMap::new();
    for name in filters {
        if random.below(5) == 0 {
            chosen.insert(*name, one(random, values[name]).to_owned());
        }
    }
    if chosen.contains_key("objectId") {
        chosen.entry("objectType").or_insert_with(|| "post".to_owned());
    }
    let asked = Asked { from, to, zone, filters: chosen };
    let query = query(&asked);
    (asked, query)
}

fn query(asked: &Asked) -> String {
    let zone = asked.zone.iana_name().unwrap_or("-03:30");
    let mut query = format!("from={}&to={}&tz={zone}", asked.from, asked.to);
    asked.filters.iter().for_each(|(name, value)| query.push_str(&format!("&{name}={value}")));
    query
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_as_counting_by_hand_does() -> anyhow::Result<()> {
    let mut random = Random::of(seed("every_question_is_answered_as_counting_by_hand_does"));
    let (mut world, mut programs) = World::new().await?;
    let begin: Timestamp = HISTORY_FROM.parse()?;
    // Later ones first: what comes late moves users to earlier cohorts.
    let late = history::random(&mut random, begin, HISTORY_DAYS / 2, 1_500);
    let early = begin + SignedDuration::from_hours(HISTORY_DAYS as i64 * 12);
    let first = history::random(&mut random, early, HISTORY_DAYS / 2, 1_500);
    world.send(&mut random, first).await?;
    world.check(&mut random, 8).await?;
    ensure!(world.fold().await? > 0, "nothing was there to be folded");
    world.check(&mut random, 8).await?;
    world.send(&mut random, late).await?;
    world.check(&mut random, 16).await?;
    world.fold().await?;
    world.check(&mut random, 8).await?;
    world.tallyman.run("processor", &["audit"]).await?;
    // Nobody has asked for this user yet, whose answers an erasure would have to forget.
    let (user, token) = ("u5", "8d5cdd60");
    ensure!(world.all.iter().any(|it| it.user == user), "{user} has done nothing");
    world.erase(user, token).await?;
    for name in [user, token] {
        let asked = Asked {
            from: begin,
            to: begin + SignedDuration::from_hours(24 * HISTORY_DAYS as i64),
            zone: TimeZone::UTC,
            filters: BTreeMap::from([("userId", name.to_owned())]),
        };
        world.compare_top_events(&asked).await?;
    }
    world.check(&mut random, 8).await?;
    world.tallyman.run("processor", &["audit"]).await?;
    for program in &mut programs {
        program.stop().await?;
    }
    Ok(())
}
