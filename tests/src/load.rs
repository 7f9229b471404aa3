//! Events that keep coming while something breaks, from clients that send again until they are heard.

use std::time::Duration;

use anyhow::{Context, bail};
use common::kafka::{Outgoing, Producer};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::events::{Event, Expected, Workload};
use crate::installation::Installation;
use crate::random::Random;
use crate::send::HttpSender;
use crate::wait::WORTH_TELLING;

/// Loads count from here, so that what a test sends besides is something else.
const FIRST: u64 = 1_000_000;

/// A tenth of a second's events go out together.
const TICK: Duration = Duration::from_millis(100);

/// A running load; ends with its owner.
pub struct Load {
    stop: CancellationToken,
    sender: JoinSet<anyhow::Result<Expected>>,
}

impl Load {
    /// Starts to send so many events a second, a fifth of them duplicates; half over HTTP where
    /// there is a gateway, the rest straight to Kafka with keys that say nothing.
    pub fn start(
        installation: &Installation,
        http: Option<&HttpSender>,
        seed: u64,
        events_a_second: usize,
    ) -> anyhow::Result<Self> {
        let stop = CancellationToken::new();
        let sender = Sender {
            http: http.cloned(),
            producer: Producer::connect(
                &installation.kafka(),
                Duration::from_millis(5),
                Duration::from_secs(10),
                65_536,
            )?,
            topic: installation.topic("user-actions"),
            sendings: Sendings::new(seed),
            batch: (events_a_second / 10).max(2),
        };
        let mut tasks = JoinSet::new();
        let (id, stopped) = (installation.id.clone(), stop.clone());
        tasks.spawn(async move {
            // At once: a test that waits for what its load sends would only say that nothing comes.
            sender.run(stopped).await.inspect_err(|error| println!("the load of {id}: {error:#}"))
        });
        Ok(Self { stop, sender: tasks })
    }

    /// Ends when the last event is acknowledged; says what must have been counted.
    pub async fn stop(mut self) -> anyhow::Result<Expected> {
        self.stop.cancel();
        self.sender.join_next().await.context("a load has one task")??
    }
}

struct Sender {
    http: Option<HttpSender>,
    producer: Producer,
    topic: String,
    sendings: Sendings,
    batch: usize,
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) -> anyhow::Result<Expected> {
        let mut expected = Expected::default();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            ticks.tick().await;
            let events: Vec<_> = (0..self.batch).map(|_| self.sendings.next()).collect();
            events.iter().for_each(|event| expected.add(event));
            let (over_http, straight) = match &self.http {
                Some(_) => events.split_at(self.batch / 2),
                None => events.split_at(0),
            };
            let began = Instant::now();
            if let Some(http) = &self.http {
                let both =
                    tokio::try_join!(http.accepted_in_the_end(over_http), self.produce(straight));
                both?;
            } else {
                self.produce(straight).await?;
            }
            if began.elapsed() > WORTH_TELLING {
                println!("waited {:.1?} until a load's events were taken", began.elapsed());
            }
        }
        Ok(expected)
    }

    /// Ends when the broker has acknowledged all of them.
    async fn produce(&self, events: &[Event]) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut left: Vec<&Event> = events.iter().collect();
        while !left.is_empty() {
            if Instant::now() > deadline {
                bail!("{} events were not acknowledged for 120 s", left.len());
            }
            let mut waiting = Vec::with_capacity(left.len());
            for event in left {
                let key = format!("wrong-{}", event.n % 17);
                let sent = self.producer.publish(&Outgoing {
                    topic: &self.topic,
                    partition: None,
                    key: Some(key.as_bytes()),
                    value: Some(event.json.as_bytes()),
                    headers: &[],
                });
                waiting.push((event, sent));
            }
            left = Vec::new();
            for (event, sent) in waiting {
                let acknowledged = match sent {
                    Ok(delivery) => delivery.await.is_ok(),
                    Err(_full) => false,
                };
                if !acknowledged {
                    left.push(event);
                }
            }
        }
        Ok(())
    }
}

/// Events without end, a fifth of them repeating an earlier one.
struct Sendings {
    workload: Workload,
    random: Random,
    fresh: u64,
}

impl Sendings {
    fn new(seed: u64) -> Self {
        Self { workload: Workload::new(seed), random: Random::of(seed), fresh: FIRST }
    }

    fn next(&mut self) -> Event {
        let sent = self.fresh - FIRST;
        let repeats = sent > 0 && self.random.below(5) == 0;
        let n = if repeats { FIRST + self.random.below(sent) } else { self.fresh };
        self.fresh += u64::from(!repeats);
        self.workload.event(n)
    }
}
