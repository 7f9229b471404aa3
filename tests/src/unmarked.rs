//! Transactions that Kafka calls complete and never marks: what a lone broker makes of some that were
//! being committed when it crashed (4.3.1; it takes itself for the leader it was, then for nobody).

use std::time::Duration;

use alerter::position;
use anyhow::Context;
use common::config::KafkaConfig;
use common::kafka::{GroupOffsets, Outgoing, TopicPartition, TransactionalProducer};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::installation::{Installation, PARTITIONS};
use crate::servers::PrivateServer;

/// Who commits in transactions: the relay, which has no state on Kafka, and both steps of the alerter.
const OWNERS: [Owner; 3] = [
    Owner { group: "processor", input: "user-actions", state: None },
    Owner { group: "alerter", input: "unique-actions", state: Some("tm.alerter-state") },
    Owner { group: "alerter-totals", input: "tm.partials", state: Some("tm.totals") },
];

#[derive(Clone, Copy)]
struct Owner {
    group: &'static str,
    input: &'static str,
    state: Option<&'static str>,
}

/// The identity of an owner of one partition.
struct Identity {
    transactional_id: String,
    source: TopicPartition,
    state: Option<TopicPartition>,
    decided: GroupOffsets,
    undecided: GroupOffsets,
}

impl Installation {
    /// Lets the broker crash while relays and alerters commit, so many times or until it leaves one
    /// of their transactions like that; how many it has left. None of the daemons runs: their
    /// identities say again what was committed last.
    pub async fn leave_unmarked(
        &self,
        kafka: &PrivateServer,
        crashes_max: usize,
    ) -> anyhow::Result<usize> {
        let mut hanging = 0;
        for _ in 0..crashes_max {
            let mut committing = JoinSet::new();
            for identity in self.identities()? {
                committing.spawn(identity.commit_for_ever(self.kafka()));
            }
            sleep(Duration::from_secs(2)).await;
            kafka.kill().await?;
            committing.shutdown().await;
            kafka.start_again().await?;
            hanging = self.hanging().await?;
            if hanging > 0 {
                break;
            }
        }
        println!("{}: {hanging} transactions hang", self.id);
        Ok(hanging)
    }

    async fn hanging(&self) -> anyhow::Result<usize> {
        let mut hanging = 0;
        for identity in self.identities()? {
            // What Kafka will decide, it has decided then.
            identity.fence(&self.kafka()).await?;
            let hangs = match &identity.state {
                None => identity.decided.committed(&identity.source).await.is_err(),
                Some(state) => {
                    let decided = identity.decided.watermarks(state).await?;
                    decided.high < identity.undecided.watermarks(state).await?.high
                }
            };
            hanging += usize::from(hangs);
        }
        Ok(hanging)
    }

    fn identities(&self) -> anyhow::Result<Vec<Identity>> {
        let mut identities = Vec::new();
        for owner in OWNERS {
            let decided = self.group_offsets(owner.group)?;
            let group = format!("{}-{}", self.id, owner.group);
            let undecided = GroupOffsets::undecided(&self.kafka(), &group)?;
            for partition in 0..PARTITIONS {
                let source = self.partition(owner.input, partition);
                identities.push(Identity {
                    transactional_id: format!("{group}/{source}"),
                    source,
                    state: owner.state.map(|topic| self.partition(topic, partition)),
                    decided: decided.clone(),
                    undecided: undecided.clone(),
                });
            }
        }
        Ok(identities)
    }
}

impl Identity {
    async fn fence(&self, kafka: &KafkaConfig) -> anyhow::Result<TransactionalProducer> {
        let offsets = self.decided.clone();
        Ok(TransactionalProducer::fence(kafka, &self.transactional_id, offsets).await?)
    }

    async fn commit_for_ever(self, kafka: KafkaConfig) -> anyhow::Result<()> {
        let next = self.decided.committed(&self.source).await?.context("nothing was committed")?;
        let producer = self.fence(&kafka).await?;
        loop {
            producer.begin()?;
            if let Some(state) = &self.state {
                let record = Outgoing {
                    topic: &state.topic,
                    partition: Some(state.partition),
                    key: Some(position::KEY.as_bytes()),
                    value: Some(&position::encode(next)),
                    headers: &[],
                };
                producer.send(&record).await?;
            }
            producer.commit(&self.source, next).await?;
        }
    }
}
