//! The statistics against the rows: each facet tells the same of every day and kind of actions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use common::postgres;
use common::stats::{
    ALL_KINDS, BrokenCell, Cell, Counts, Facet, Facts, Firsts, Objects, Users, day_of_slot, delta,
};
use deadpool_postgres::{Pool, Transaction};
use futures_util::TryStreamExt;

/// By UTC day and kind.
type Days<T> = BTreeMap<(i32, i32), T>;

/// What each facet tells.
#[derive(Default)]
struct Told {
    minutes: Days<u64>,
    facts: Days<u64>,
    counts: Days<u64>,
    slot_users: Days<Users>,
    day_users: Days<Users>,
    objects: Days<u64>,
    firsts: BTreeMap<i32, Firsts>,
}

/// Cells, deltas, marks and rows in one snapshot.
pub async fn check(pool: &Pool) -> anyhow::Result<String> {
    let mut client = pool.get().await?;
    let snapshot = postgres::snapshot(&mut client).await?;
    let mut told = Told::default();
    told.read_cells(&snapshot).await?;
    told.read_deltas(&snapshot).await?;
    let mut wrong = BTreeSet::new();
    let events = told.compare_days(&snapshot, &mut wrong).await?;
    told.compare_firsts(&snapshot, &mut wrong).await?;
    match wrong.first() {
        Some(first) => bail!("{} differ from the rows, first {first}", wrong.len()),
        None => Ok(format!("{events} events equal to the rows")),
    }
}

impl Told {
    async fn read_cells(&mut self, on: &Transaction<'_>) -> anyhow::Result<()> {
        let none: [&str; 0] = [];
        let sql = include_str!("read_all_cells.sql");
        let mut rows = std::pin::pin!(on.query_raw(sql, none).await?);
        while let Some(row) = rows.try_next().await? {
            let (facet, at, kind): (i16, i32, i32) = (row.get(0), row.get(1), row.get(2));
            self.add_cell(facet, at, kind, row.get(3))?;
        }
        Ok(())
    }

    fn add_cell(&mut self, facet: i16, at: i32, kind: i32, body: &[u8]) -> Result<(), BrokenCell> {
        let day = (day_of_slot(at), kind);
        if facet == Facet::SlotMinutes.number() {
            *self.minutes.entry(day).or_default() += Counts::unpack(body)?.sum();
        } else if facet == Facet::SlotFacts.number() {
            *self.facts.entry(day).or_default() += Facts::unpack(body)?.0.len() as u64;
        } else if facet == Facet::SlotUsers.number() {
            self.slot_users.entry(day).or_default().absorb(Users::unpack(body)?);
        } else if facet == Facet::DayCounts.number() {
            *self.counts.entry((at, kind)).or_default() += Counts::unpack(body)?.sum();
        } else if facet == Facet::DayUsers.number() {
            self.day_users.entry((at, kind)).or_default().absorb(Users::unpack(body)?);
        } else if facet == Facet::DayObjects.number() {
            let counts = self.objects.entry((at, kind)).or_default();
            Objects::each(body, |_, count| *counts += count)?;
        } else {
            self.firsts.entry(at).or_default().absorb(Firsts::unpack(body)?);
        }
        Ok(())
    }

    /// What a fold would add.
    async fn read_deltas(&mut self, on: &Transaction<'_>) -> anyhow::Result<()> {
        for row in on.query("select facts from statistics_deltas", &[]).await? {
            let mut groups = delta::Groups::new();
            delta::unpack_into(&mut groups, row.get(0))?;
            for ((slot, kind), facts) in groups {
                let (day, users) = (day_of_slot(slot), Users::of(&facts));
                let count = facts.0.len() as u64;
                *self.facts.entry((day, kind)).or_default() += count;
                let to_objects = facts.0.iter().filter(|it| it.object > 0).count() as u64;
                if to_objects > 0 {
                    *self.objects.entry((day, kind)).or_default() += to_objects;
                }
                for user in &users.0 {
                    self.firsts.entry(Firsts::block(user)).or_default().note(user, slot);
                }
                for kind in [kind, ALL_KINDS] {
                    *self.minutes.entry((day, kind)).or_default() += count;
                    *self.counts.entry((day, kind)).or_default() += count;
                    self.slot_users.entry((day, kind)).or_default().absorb(users.clone());
                    self.day_users.entry((day, kind)).or_default().absorb(users.clone());
                }
            }
        }
        Ok(())
    }

    /// Takes away what the rows tell: what is left, or lacks, is wrong.
    async fn compare_days(
        &mut self,
        on: &Transaction<'_>,
        wrong: &mut BTreeSet<String>,
    ) -> anyhow::Result<u64> {
        let mut events = 0;
        for row in on.query(include_str!("count_kinds_of_days.sql"), &[]).await? {
            let day: (i32, i32) = (row.get(0), row.get(1));
            let [count, users, to_objects] = [2, 3, 4].map(|at| row.get::<_, i64>(at) as u64);
            let told_users = |days: &mut Days<Users>| days.remove(&day).map_or(0, |it| it.0.len());
            let told = [
                ("counts by minute", self.minutes.remove(&day).unwrap_or(0), count),
                ("counts", self.counts.remove(&day).unwrap_or(0), count),
                ("users of slots", told_users(&mut self.slot_users), users),
                ("users", told_users(&mut self.day_users), users),
            ];
            let of_kind = [
                ("facts", self.facts.remove(&day).unwrap_or(0), count),
                ("objects", self.objects.remove(&day).unwrap_or(0), to_objects),
            ];
            let is_all = day.1 == ALL_KINDS;
            events += if is_all { count } else { 0 };
            let of_kind = of_kind.into_iter().filter(|_| !is_all);
            for (what, told, rows) in told.into_iter().chain(of_kind) {
                if told != rows {
                    wrong.insert(format!(
                        "{what} of kind {} on day {}: {told} of {rows}",
                        day.1, day.0
                    ));
                }
            }
        }
        let left = [&self.minutes, &self.counts, &self.facts, &self.objects].map(BTreeMap::len);
        let left = left.iter().sum::<usize>() + self.slot_users.len() + self.day_users.len();
        if left > 0 {
            wrong.insert(format!("{left} cells of days without a row"));
        }
        Ok(events)
    }

    async fn compare_firsts(
        &self,
        on: &Transaction<'_>,
        wrong: &mut BTreeSet<String>,
    ) -> anyhow::Result<()> {
        let mut told = BTreeMap::new();
        for (block, firsts) in &self.firsts {
            told.extend(firsts.iter(*block));
        }
        let none: [&str; 0] = [];
        let sql = include_str!("read_first_slots.sql");
        let mut rows = std::pin::pin!(on.query_raw(sql, none).await?);
        while let Some(row) = rows.try_next().await? {
            let (user, slot): (i32, i32) = (row.get(0), row.get(1));
            let told = told.remove(&user.cast_unsigned());
            if told != Some(slot) {
                wrong.insert(format!("first slot of user {user}: {told:?} of {slot}"));
            }
        }
        if !told.is_empty() {
            wrong.insert(format!("{} users without a row", told.len()));
        }
        Ok(())
    }
}
