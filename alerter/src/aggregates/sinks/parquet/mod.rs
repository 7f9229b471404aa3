//! Files of Parquet in a store that speaks S3, or in a directory: the position is in the files.

mod chain;
mod rows;

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use common::config::KafkaConfig;
use common::kafka::{RecordBatch, TopicPartition, topic_id};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tracing::error;

use crate::aggregates::sinks::parquet::chain::Chain;
use crate::aggregates::sinks::parquet::rows::Row;
use crate::delivery::subscriber::Place;
use crate::metrics::AlerterMetrics;

/// An object whose name is given a second time, to see that this is refused.
const PROBE: &str = "_tallyman";

pub struct Parquet {
    kafka: KafkaConfig,
    store: Arc<dyn ObjectStore>,
    root: Path,
    gives_names_once: OnceCell<()>,
    metrics: AlerterMetrics,
}

impl Parquet {
    /// Into a place as AGGREGATE_PARQUET names it.
    pub fn new(kafka: KafkaConfig, place: &str, metrics: AlerterMetrics) -> anyhow::Result<Self> {
        let (store, root) =
            open(place).with_context(|| format!("open {place} (AGGREGATE_PARQUET)"))?;
        Ok(Self { kafka, store, root, gives_names_once: OnceCell::new(), metrics })
    }

    /// Fails where a name can be given twice: there, two owners of a partition would overwrite
    /// each other's windows unnoticed.
    async fn ensure_names_are_given_once(&self) -> anyhow::Result<()> {
        let path = self.root.clone().join(PROBE);
        for _ in 0..2 {
            let claim = "That this name is given only once is what the files beside it rest on.\n";
            match self.store.put_opts(&path, claim.into(), PutMode::Create.into()).await {
                Err(Error::AlreadyExists { .. }) => return Ok(()),
                put => put.with_context(|| format!("put {path}"))?,
            };
        }
        error!(%path, "the store of AGGREGATE_PARQUET overwrites; nothing is written there");
        bail!("the store ignores If-None-Match: it cannot keep each window once")
    }
}

impl Place for Parquet {
    type Held = Chain;

    fn name(&self) -> &'static str {
        "Parquet files of windows"
    }

    async fn take(&self, source: &TopicPartition) -> anyhow::Result<(Chain, Option<i64>)> {
        self.gives_names_once.get_or_try_init(|| self.ensure_names_are_given_once()).await?;
        // A topic that was re-created has another id, and offsets of its own.
        let id = topic_id(&self.kafka, &source.topic).await?.simple().to_string();
        let topic = self.root.clone().join(format!("{}.{}", source.topic, &id[..8]));
        Chain::open(self.store.clone(), topic.join(format!("partition={}", source.partition))).await
    }

    async fn store(&self, chain: &mut Chain, batch: &RecordBatch) -> anyhow::Result<()> {
        ensure!(batch.from >= chain.next(), "{} is in a file already", batch.from);
        let mut rows = Vec::with_capacity(batch.records.len());
        for record in &batch.records {
            match Row::of(record.offset, record.value.as_deref().unwrap_or_default()) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    self.metrics.aggregates_refused_total.with_label_values(&["parquet"]).inc();
                    error!(offset = record.offset, %error, "no window; only the topic has it");
                }
            }
        }
        if rows.is_empty() {
            // The chain stays where it is: the next file begins there, whoever writes it.
            return Ok(());
        }
        let (stored, end) = (rows.len() as u64, batch.to);
        let file = spawn_blocking(move || rows::encode(&rows, end)).await??;
        chain.append(file, end).await?;
        self.metrics.aggregates_stored_total.with_label_values(&["parquet"]).inc_by(stored);
        Ok(())
    }
}

/// The store and the path in it that a URL means; what else S3 needs is in AWS' own variables.
fn open(place: &str) -> anyhow::Result<(Arc<dyn ObjectStore>, Path)> {
    if let Some(bucket) = place.strip_prefix("s3://") {
        let (_name, path) = bucket.split_once('/').unwrap_or((bucket, ""));
        let store = AmazonS3Builder::from_env().with_url(place).build()?;
        return Ok((Arc::new(store), Path::parse(path)?));
    }
    let directory = place.strip_prefix("file://").context("neither s3:// nor file://")?;
    std::fs::create_dir_all(directory)?;
    let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
    Ok((Arc::new(store), Path::ROOT))
}
