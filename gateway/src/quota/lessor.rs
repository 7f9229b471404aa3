//! Asks Redis, which holds the budgets of all instances, for a lease; a slow answer is no answer.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::metrics::prometheus::IntCounterVec;
use fred::types::scripts::Script;

use super::Subject;
use super::lease::{Grant, Request, WINDOW};
use crate::redis::{Impatient, NoAnswer};

pub struct Lessor {
    redis: Impatient,
    script: Script,
    /// Budgets this instance may open in Redis in a window: a flood of addresses must not fill it.
    opened_max: usize,
    opened: Mutex<Opened>,
    /// By outcome: granted, refused, late, failed or not_asked.
    leases: IntCounterVec,
}

#[derive(Debug)]
struct Opened {
    budgets: usize,
    since: Instant,
}

impl Lessor {
    pub fn new(redis: Impatient, opened_max: usize, leases: IntCounterVec) -> Self {
        Self {
            redis,
            script: Script::from_lua(include_str!("lease.lua")),
            opened_max,
            opened: Mutex::new(Opened { budgets: 0, since: Instant::now() }),
            leases,
        }
    }

    /// What Redis grants; `None` when it is away, or does not answer in time.
    pub async fn lease(&self, subject: Subject, request: Request) -> Option<Grant> {
        if !self.redis.is_asked() || request.is_first && !self.may_open() {
            return self.count("not_asked", None);
        }
        let arguments = vec![
            i64::from(request.budget),
            i64::from(request.needed),
            i64::from(request.wanted),
            i64::from(request.unreported),
            WINDOW.as_millis() as i64,
        ];
        let answer = self.redis.call::<Vec<i64>>(&self.script, subject.redis_key(), arguments);
        match answer.await {
            Ok(answer) => {
                let grant = grant_of(&answer);
                let is_granted = grant.is_some_and(|grant| grant.granted > 0);
                self.count(if is_granted { "granted" } else { "refused" }, grant)
            }
            Err(NoAnswer::NotAsked) => self.count("not_asked", None),
            Err(NoAnswer::Late) => self.count("late", None),
            Err(NoAnswer::Failed) => self.count("failed", None),
        }
    }

    fn may_open(&self) -> bool {
        let now = Instant::now();
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if now - opened.since >= WINDOW {
            *opened = Opened { budgets: 0, since: now };
        }
        let has_room = opened.budgets < self.opened_max;
        opened.budgets += usize::from(has_room);
        has_room
    }

    fn count(&self, outcome: &'static str, grant: Option<Grant>) -> Option<Grant> {
        self.leases.with_label_values(&[outcome]).inc();
        grant
    }
}

fn grant_of(answer: &[i64]) -> Option<Grant> {
    let &[granted, unleased, ends_in] = answer else { return None };
    Some(Grant {
        granted: granted.try_into().ok()?,
        unleased: unleased.try_into().ok()?,
        ends_in: Duration::from_millis(ends_in.try_into().ok()?),
    })
}
