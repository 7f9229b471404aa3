//! One task for each partition that a consumer group gives us, and none for those it takes back.

use std::collections::HashMap;

use anyhow::{Context, bail};
use common::kafka::{GroupConsumer, GroupEvent, Partitions, TopicPartition};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How a partition's task left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// It is still open: the group has to release it.
    Opened,
    Closed,
}

/// Runs the tasks until `shutdown`, then ends them and leaves the group. A task ends when its token
/// is cancelled and not before, except with an error, which ends everything. `joined` hears when
/// the group has spoken.
pub async fn share<F, Fut>(
    mut consumer: GroupConsumer,
    start: F,
    joined: impl Fn(),
    shutdown: &CancellationToken,
) -> anyhow::Result<()>
where
    F: Fn(TopicPartition, CancellationToken) -> Fut,
    Fut: Future<Output = anyhow::Result<Left>> + Send + 'static,
{
    let mut crew = Crew::default();
    let ended = loop {
        tokio::select! {
            () = shutdown.cancelled() => break Ok(()),
            Some(ended) = crew.tasks.join_next() => break crew.premature(ended),
            event = consumer.next() => match event {
                GroupEvent::Assigned(sources) => {
                    info!(sources = names(&sources), "partitions assigned");
                    for source in sources {
                        crew.start(source, &start);
                    }
                    joined();
                }
                GroupEvent::Revoked(sources) => {
                    info!(sources = names(&sources), "partitions revoked");
                    if let Err(error) = crew.give_up(&consumer.partitions(), &sources).await {
                        break Err(error);
                    }
                }
                GroupEvent::Trouble(error) => warn!(%error, "the consumer reports trouble"),
            },
        }
    };
    let all: Vec<_> = crew.stops.keys().cloned().collect();
    let ended = ended.and(crew.give_up(&consumer.partitions(), &all).await);
    drop(start);
    consumer.leave().await;
    ended
}

type Ended = (TopicPartition, anyhow::Result<Left>);

#[derive(Default)]
struct Crew {
    tasks: JoinSet<Ended>,
    stops: HashMap<TopicPartition, CancellationToken>,
}

impl Crew {
    fn start<F, Fut>(&mut self, source: TopicPartition, start: &F)
    where
        F: Fn(TopicPartition, CancellationToken) -> Fut,
        Fut: Future<Output = anyhow::Result<Left>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = start(source.clone(), stop.clone());
        self.stops.insert(source.clone(), stop);
        self.tasks.spawn(async move { (source, task.await) });
    }

    /// Ends the tasks of these partitions and waits for them: what they began is committed before
    /// another member may take over.
    async fn give_up(
        &mut self,
        partitions: &Partitions,
        sources: &[TopicPartition],
    ) -> anyhow::Result<()> {
        for stop in sources.iter().filter_map(|source| self.stops.get(source)) {
            stop.cancel();
        }
        let mut opened = Vec::new();
        while sources.iter().any(|source| self.stops.contains_key(source)) {
            let Some(ended) = self.tasks.join_next().await else { break };
            let (source, left) = ended.context("a partition's task panicked")?;
            let was_told_to = self.stops.remove(&source).is_some_and(|stop| stop.is_cancelled());
            match left.with_context(|| format!("watch {source}"))? {
                _ if !was_told_to => bail!("the task of {source} ended by itself"),
                Left::Opened => opened.push(source),
                Left::Closed => {}
            }
        }
        if let Err(error) = partitions.release(&opened) {
            warn!(%error, sources = names(&opened), "partitions could not be released");
        }
        Ok(())
    }

    /// What it means that a task ended though nobody told it to.
    fn premature(&mut self, ended: Result<Ended, tokio::task::JoinError>) -> anyhow::Result<()> {
        let (source, left) = ended.context("a partition's task panicked")?;
        self.stops.remove(&source);
        left.with_context(|| format!("watch {source}"))?;
        bail!("the task of {source} ended by itself")
    }
}

fn names(sources: &[TopicPartition]) -> String {
    sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
