//! The objects of one partition: each begins where the one before ends, and is named by that offset.
//!
//! A name is given once (`PutMode::Create`, over S3 `If-None-Match: *`). So instances that both take
//! themselves for the owner, with whatever batches behind the same offset, want the same name: one
//! gets it, and the other learns where that object ends before it may go on. What an object ends with
//! stands in the object itself, so there is no second place to agree with it.

use std::sync::Arc;

use anyhow::Context;
use common::failpoint::kill_point;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use crate::aggregates::sinks::parquet::rows;

const SUFFIX: &str = ".parquet";
/// How many names are read at a time: a page of S3.
const PAGE: usize = 1_000;

/// A partition's objects, and where they end.
pub struct Chain {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    /// The first offset that is in no object.
    next: i64,
}

impl Chain {
    /// Finds where the objects end; None where there is none yet.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        folder: Path,
    ) -> anyhow::Result<(Self, Option<i64>)> {
        let mut chain = Self { store, folder, next: 0 };
        let Some(newest) = chain.newest().await? else { return Ok((chain, None)) };
        let path = chain.path(newest);
        let object = async { chain.store.get(&path).await?.bytes().await };
        let object = object.await.with_context(|| format!("read {path}"))?;
        let end = rows::end(&object).with_context(|| format!("find where {path} ends"))?;
        chain.next = end;
        Ok((chain, Some(end)))
    }

    pub fn next(&self) -> i64 {
        self.next
    }

    /// Adds the object that holds all up to before `end`. After an error it may be there or not.
    pub async fn append(&mut self, object: Vec<u8>, end: i64) -> anyhow::Result<()> {
        let path = self.path(self.next);
        kill_point("aggregates_parquet_before_put");
        match self.store.put_opts(&path, object.into(), PutMode::Create.into()).await {
            Ok(_put) => {}
            Err(Error::AlreadyExists { .. }) => {
                anyhow::bail!(
                    "{path} is there already: another instance stored it, or this one did"
                )
            }
            Err(error) => return Err(error).with_context(|| format!("put {path}")),
        }
        kill_point("aggregates_parquet_after_put");
        self.next = end;
        Ok(())
    }

    /// The greatest name. Stores list names from a given one upwards and there may be years of them,
    /// so it is looked for by halving.
    async fn newest(&self) -> anyhow::Result<Option<i64>> {
        let (mut newest, mut beyond) = (None, i64::MAX);
        // Its minus stands before all digits.
        let mut behind = -1;
        loop {
            let listed = self.store.list_with_offset(Some(&self.folder), &self.path(behind));
            let page: Vec<_> = listed
                .take(PAGE)
                .try_collect()
                .await
                .with_context(|| format!("list {}", self.folder))?;
            match page.iter().filter_map(|object| offset(&object.location)).max() {
                Some(found) if page.len() < PAGE => return Ok(Some(found)),
                Some(found) => newest = Some(found),
                None if behind <= newest.unwrap_or(-1) => return Ok(newest),
                None => beyond = behind,
            }
            behind = i64::midpoint(newest.unwrap_or(-1), beyond);
        }
    }

    /// Zeros before the offset let names sort as offsets do.
    fn path(&self, offset: i64) -> Path {
        self.folder.clone().join(format!("{offset:019}{SUFFIX}"))
    }
}

/// What others put into the folder has none.
fn offset(path: &Path) -> Option<i64> {
    path.filename()?.strip_suffix(SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use object_store::local::LocalFileSystem;

    use super::*;

    struct Directory(tempfile::TempDir);

    impl Directory {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        async fn open(&self) -> (Chain, Option<i64>) {
            let store = LocalFileSystem::new_with_prefix(self.0.path()).unwrap();
            Chain::open(Arc::new(store), Path::from("partition=1")).await.unwrap()
        }

        fn path(&self, offset: i64) -> std::path::PathBuf {
            self.0.path().join(format!("partition=1/{offset:019}.parquet"))
        }
    }

    fn until(end: i64) -> Vec<u8> {
        rows::encode(&[], end).unwrap()
    }

    #[tokio::test]
    async fn each_begins_where_the_one_before_ends() {
        let directory = Directory::new();
        let (mut chain, position) = directory.open().await;
        assert_eq!(position, None);
        chain.append(until(7), 7).await.unwrap();
        chain.append(until(12), 12).await.unwrap();
        assert_eq!(directory.open().await.1, Some(12));
        assert!(directory.path(0).exists() && directory.path(7).exists());
    }

    #[tokio::test]
    async fn of_two_who_go_on_from_one_place_one_gets_it_whatever_they_have() {
        for (first, second) in [(20, 20), (20, 15), (20, 99)] {
            let directory = Directory::new();
            directory.open().await.0.append(until(10), 10).await.unwrap();
            let (mut owner, mut zombie) = (directory.open().await.0, directory.open().await.0);
            owner.append(until(first), first).await.unwrap();
            let refused = zombie.append(until(second), second).await.unwrap_err();
            assert!(refused.to_string().contains("is there already"), "{refused}");
            // Also later, when the owner has gone on.
            owner.append(until(200), 200).await.unwrap();
            assert!(zombie.append(until(second), second).await.is_err());
            assert_eq!(directory.open().await.1, Some(200));
        }
    }

    #[tokio::test]
    async fn all_but_the_newest_may_be_removed() {
        let directory = Directory::new();
        let (mut chain, _) = directory.open().await;
        for end in [5, 9, 14] {
            chain.append(until(end), end).await.unwrap();
        }
        for offset in [0, 5] {
            std::fs::remove_file(directory.path(offset)).unwrap();
        }
        assert_eq!(directory.open().await.1, Some(14));
        chain.append(until(20), 20).await.unwrap();
        assert_eq!(directory.open().await.1, Some(20));
    }

    #[tokio::test]
    async fn the_newest_of_thousands_is_found_among_files_of_others() {
        let directory = Directory::new();
        directory.open().await.0.append(until(1), 1).await.unwrap();
        for offset in 1..2_500 {
            std::fs::write(directory.path(offset * offset), "never read").unwrap();
        }
        for other in ["notes.txt", "x.parquet"] {
            std::fs::write(directory.path(1).with_file_name(other), "of another").unwrap();
        }
        let newest = 2_500_i64.pow(2);
        std::fs::write(directory.path(newest), until(newest + 3)).unwrap();
        assert_eq!(directory.open().await.1, Some(newest + 3));
    }

    #[tokio::test]
    async fn what_is_no_file_of_windows_is_named() {
        let directory = Directory::new();
        directory.open().await.0.append(until(1), 1).await.unwrap();
        std::fs::write(directory.path(1), "half").unwrap();
        let store = LocalFileSystem::new_with_prefix(directory.0.path()).unwrap();
        let opened = Chain::open(Arc::new(store), Path::from("partition=1")).await;
        let refused = format!("{:#}", opened.err().unwrap());
        assert!(refused.contains("partition=1/0000000000000000001.parquet ends"), "{refused}");
    }
}
