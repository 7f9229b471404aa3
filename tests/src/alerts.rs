//! What the alerter has said: each milestone once in the topic, and once in the table.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;

use crate::events::Expected;
use crate::eventually;
use crate::installation::{Installation, PARTITIONS};

/// (subject, milestone) → how many notifications.
type Milestones = BTreeMap<(String, u64), u64>;

impl Installation {
    /// Waits until the alerter has read everything; then each milestone must have been told
    /// exactly once, in the topic and in the table.
    pub async fn expect_milestones(&self, expected: &Expected) -> anyhow::Result<()> {
        self.wait_alerted().await?;
        let expected = expected.milestones();
        let told = milestones(&self.notifications().await?)?;
        if told != expected {
            let wrong = anyhow!("milestones in the topic: expected {expected:?}, found {told:?}");
            return Err(self.with_logs(&wrong));
        }
        let total: u64 = expected.values().sum();
        let kept =
            eventually("the table holds the milestones", Duration::from_secs(60), async || {
                let kept = self.milestones_in_the_table().await?;
                let rows: u64 = kept.values().sum();
                ensure!(rows >= total, "{rows} rows of {total}");
                Ok(kept)
            });
        let kept = kept.await.map_err(|error| self.with_logs(&error))?;
        ensure!(kept == expected, "milestones in the table: expected {expected:?}, found {kept:?}");
        println!("{}: {total} milestones, each once", self.id);
        Ok(())
    }

    /// The notifications of the topic, as a careful consumer sees them; no id twice.
    pub async fn notifications(&self) -> anyhow::Result<Vec<Value>> {
        let records = self.read("notifications").await?;
        let told: Vec<_> = records.iter().map(|it| it.json()).collect::<Result<_, _>>()?;
        let ids: BTreeSet<_> = told.iter().map(|it| it["id"].to_string()).collect();
        ensure!(ids.len() == told.len(), "{} notifications, {} ids", told.len(), ids.len());
        Ok(told)
    }

    /// Waits until the alerter has committed past the last unique action.
    pub async fn wait_alerted(&self) -> anyhow::Result<()> {
        let ends = self.ends("unique-actions").await?;
        let offsets = self.group_offsets("alerter")?;
        let within = Duration::from_secs(120);
        let alerted = eventually("the alerter has read everything", within, async || {
            for (partition, end) in &ends {
                let input = self.partition("unique-actions", *partition);
                let at = offsets.committed(&input).await?.unwrap_or(0);
                ensure!(at >= *end, "{input}: alerter at {at} of {end}");
            }
            Ok(())
        });
        alerted.await.map_err(|error| self.with_logs(&error))
    }

    /// Waits until the alerter has committed more than before.
    pub async fn alerter_progress(&self, within: Duration) -> anyhow::Result<()> {
        let offsets = self.group_offsets("alerter")?;
        // Unknown while the transaction of a killed alerter is being decided.
        let committed = async || {
            let mut sum = 0;
            for partition in 0..PARTITIONS {
                let input = self.partition("unique-actions", partition);
                sum += offsets.committed(&input).await?.unwrap_or(0);
            }
            anyhow::Ok(sum)
        };
        let before = eventually("the alerter's offsets are known", within, committed).await?;
        let moved = eventually("the alerter commits", within, async || {
            ensure!(committed().await? > before, "its offsets stay at {before}");
            Ok(())
        });
        moved.await.map_err(|error| self.with_logs(&error))
    }

    /// One past the last committed record of each partition; behind it only control records lie.
    async fn ends(&self, topic: &str) -> anyhow::Result<BTreeMap<i32, i64>> {
        let mut ends: BTreeMap<i32, i64> = (0..PARTITIONS).map(|it| (it, 0)).collect();
        for record in self.read(topic).await? {
            ends.insert(record.partition, record.offset + 1);
        }
        Ok(ends)
    }

    async fn milestones_in_the_table(&self) -> anyhow::Result<Milestones> {
        let counted = "select subject, expected::bigint, count(*) from notifications
                        where rule = 'milestone' group by 1, 2";
        let rows = self.postgres().await?.rows(counted).await?;
        let number = |row: &tokio_postgres::Row, at| row.get::<_, i64>(at) as u64;
        Ok(rows.iter().map(|row| ((row.get(0), number(row, 1)), number(row, 2))).collect())
    }
}

fn milestones(notifications: &[Value]) -> anyhow::Result<Milestones> {
    let mut told = Milestones::new();
    for notification in notifications.iter().filter(|it| it["data"]["rule"] == "milestone") {
        let subject = notification["subject"].as_str().context("no subject")?;
        let milestone = notification["data"]["expected"].as_f64().context("no milestone")?;
        *told.entry((subject.to_owned(), milestone as u64)).or_default() += 1;
    }
    Ok(told)
}
