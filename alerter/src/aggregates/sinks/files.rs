//! Files of windows in a directory: a window a line, compressed with zstd, named by their offsets.
//!
//! A file is written beside, then given its name, and its name is the position: what has no name was
//! not stored, what has one is not stored again. A lock on each partition keeps out an instance that
//! was taken for dead.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use common::config::KafkaConfig;
use common::failpoint::kill_point;
use common::kafka::{RecordBatch, TopicPartition, topic_id};
use tokio::task::spawn_blocking;

use crate::delivery::subscriber::Place;
use crate::metrics::AlerterMetrics;

const SUFFIX: &str = ".ndjson.zst";
/// zstd's own choice between speed and size.
const LEVEL: i32 = 3;

pub struct Files {
    kafka: KafkaConfig,
    directory: PathBuf,
    metrics: AlerterMetrics,
}

/// A partition whose files nobody else writes.
pub struct Held {
    /// What the names of its files begin with.
    prefix: String,
    /// The first offset that is in no file.
    next: i64,
    _lock: File,
}

impl Files {
    pub fn new(
        kafka: KafkaConfig,
        directory: &Path,
        metrics: AlerterMetrics,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("create {} (AGGREGATE_FILES)", directory.display()))?;
        Ok(Self { kafka, directory: directory.to_owned(), metrics })
    }
}

impl Place for Files {
    type Held = Held;

    fn name(&self) -> &'static str {
        "directory of windows"
    }

    async fn take(&self, source: &TopicPartition) -> anyhow::Result<(Held, Option<i64>)> {
        // A topic that was re-created has another id, and offsets of its own.
        let id = topic_id(&self.kafka, &source.topic).await?.simple().to_string();
        let prefix = format!("{}.{}.{}.", source.topic, &id[..8], source.partition);
        let directory = self.directory.clone();
        spawn_blocking(move || take(&directory, prefix)).await?
    }

    async fn store(&self, held: &mut Held, batch: &RecordBatch) -> anyhow::Result<()> {
        ensure!(batch.from >= held.next, "{} is in a file already", batch.from);
        let lines = batch.records.len();
        if lines > 0 {
            let path = self.directory.join(name(&held.prefix, batch.from, batch.to));
            let mut text = Vec::new();
            for value in batch.records.iter().filter_map(|record| record.value.as_deref()) {
                text.extend_from_slice(value);
                text.push(b'\n');
            }
            spawn_blocking(move || write(&path, &text)).await??;
        }
        held.next = batch.to;
        self.metrics.aggregates_stored_total.with_label_values(&["files"]).inc_by(lines as u64);
        Ok(())
    }
}

/// Locks a partition, removes what its last owner did not finish, and finds where it came to.
fn take(directory: &Path, prefix: String) -> anyhow::Result<(Held, Option<i64>)> {
    let path = directory.join(format!(".{prefix}lock"));
    let lock = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => bail!("another instance still has {}", path.display()),
        Err(TryLockError::Error(error)) => return Err(error).context("lock a partition's files"),
    }
    let mut position = None;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix('.').is_some_and(|it| end(&prefix, it).is_some()) {
            fs::remove_file(entry.path())?;
        }
        position = position.max(end(&prefix, &name));
    }
    Ok((Held { prefix, next: position.unwrap_or(0), _lock: lock }, position))
}

/// Zeros before the offsets let names sort as offsets do.
fn name(prefix: &str, from: i64, to: i64) -> String {
    format!("{prefix}{from:019}-{to:019}{SUFFIX}")
}

/// The offset behind the last one that a file of the partition holds.
fn end(prefix: &str, name: &str) -> Option<i64> {
    let (_from, to) = name.strip_prefix(prefix)?.strip_suffix(SUFFIX)?.split_once('-')?;
    to.parse().ok()
}

/// Either the whole file is there under its name, on disk, or nothing is.
fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let (directory, name) = (path.parent(), path.file_name());
    let (directory, name) = directory.zip(name).context("a file in a directory")?;
    let beside = directory.join(format!(".{}", name.display()));
    let mut file = File::create(&beside).with_context(|| format!("create {}", beside.display()))?;
    file.write_all(&zstd::encode_all(text, LEVEL)?)?;
    file.sync_all()?;
    kill_point("aggregates_files_before_rename");
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()?;
    kill_point("aggregates_files_after_rename");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "action-aggregates.0a1b2c3d.1.";

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_names_tell_the_position_and_what_has_none_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: String| directory.path().join(name);
        write(&at(name(PREFIX, 0, 7)), b"a\n").unwrap();
        write(&at(name(PREFIX, 7, 12)), b"b\n").unwrap();
        write(&at(name("action-aggregates.0a1b2c3d.11.", 7, 99)), b"c\n").unwrap();
        fs::write(at(format!(".{}", name(PREFIX, 12, 20))), b"half").unwrap();
        let (held, position) = take(directory.path(), PREFIX.to_owned()).unwrap();
        assert_eq!((held.next, position), (12, Some(12)));
        let left = names(directory.path());
        assert_eq!(left.len(), 4, "three files and the lock: {left:?}");
        let content = fs::read(at(name(PREFIX, 7, 12))).unwrap();
        assert_eq!(zstd::decode_all(&*content).unwrap(), b"b\n");
    }

    #[test]
    fn all_but_the_newest_may_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |from, to| directory.path().join(name(PREFIX, from, to));
        for (from, to) in [(0, 7), (7, 12), (12, 30)] {
            write(&at(from, to), b"a\n").unwrap();
        }
        fs::remove_file(at(0, 7)).unwrap();
        fs::remove_file(at(7, 12)).unwrap();
        assert_eq!(take(directory.path(), PREFIX.to_owned()).unwrap().1, Some(30));
    }

    #[test]
    fn a_partition_has_one_owner_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = take(directory.path(), PREFIX.to_owned()).unwrap();
        let refused = take(directory.path(), PREFIX.to_owned()).err().unwrap();
        assert!(refused.to_string().contains("another instance"), "{refused}");
        drop(first);
        assert!(take(directory.path(), PREFIX.to_owned()).is_ok());
    }
}
