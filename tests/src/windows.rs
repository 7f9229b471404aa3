//! What the alerter has counted by window: in every sink what the stored rows say.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::installation::Installation;
use crate::{eventually, script};

/// (start of the minute, source, type, object type) → count and users.
type Windows = BTreeMap<[String; 4], (i64, i64)>;

/// The last windows close when the streams have been quiet for a while.
const CLOSED_WITHIN: Duration = Duration::from_secs(90);

impl Installation {
    /// Waits until the windows of a minute are, in the topic and in the table, what a count over
    /// all rows gives.
    pub async fn expect_windows(&self) -> anyhow::Result<()> {
        self.wait_alerted().await?;
        let expected = self.windows_of_rows().await?;
        self.expect_windows_to_be("the table", &expected, async || {
            self.windows_in_the_table().await
        })
        .await?;
        self.expect_windows_to_be("the topic", &expected, async || {
            self.windows_in_the_topic().await
        })
        .await?;
        if let Some(directory) = self.files_of_windows() {
            self.expect_files_of_windows(&directory).await?;
        }
        if let Some(place) = self.setting("AGGREGATE_PARQUET") {
            self.expect_parquet_of_windows(place).await?;
        }
        let counted: i64 = expected.values().map(|(count, _)| count).sum();
        println!("{}: {} windows, {counted} events in them", self.id, expected.len());
        Ok(())
    }

    async fn expect_windows_to_be(
        &self,
        place: &str,
        expected: &Windows,
        mut look: impl AsyncFnMut() -> anyhow::Result<Windows>,
    ) -> anyhow::Result<()> {
        let what = format!("{place} has the windows");
        let right = eventually(&what, CLOSED_WITHIN, async || {
            let found = look().await?;
            let keys = expected.keys().chain(found.keys());
            let wrong = keys.filter(|key| expected.get(*key) != found.get(*key));
            let wrong: Vec<_> = wrong
                .map(|key| format!("{key:?}: {:?}, not {:?}", found.get(key), expected.get(key)))
                .collect();
            ensure!(wrong.is_empty(), "{} are wrong, such as {}", wrong.len(), wrong[0]);
            Ok(())
        });
        right.await.map_err(|error| self.with_logs(&error))
    }

    /// Sends windows to all sinks: topic, table and files.
    pub fn set_all_sinks(&mut self) {
        let directory = self.directory().join("windows");
        self.set("AGGREGATE_SINKS", "kafka,postgres,files");
        self.set("AGGREGATE_FILE_SECONDS", "1");
        self.set("AGGREGATE_FILES", &directory.display().to_string());
    }

    fn files_of_windows(&self) -> Option<PathBuf> {
        self.setting("AGGREGATE_FILES").map(PathBuf::from)
    }

    /// Sends windows to the topic, the table and the store of `./dev test parquet`.
    pub fn set_parquet(&mut self) {
        self.set("AGGREGATE_SINKS", "kafka,postgres,parquet");
        self.set("AGGREGATE_FILE_SECONDS", "1");
        self.set("AGGREGATE_PARQUET", &format!("s3://tallyman/{}", self.id));
    }

    fn setting(&self, name: &str) -> Option<&str> {
        let setting = self.settings.iter().rfind(|(set, _)| set == name);
        setting.map(|(_, value)| value.as_str())
    }

    /// Waits until Parquet holds each record of the topic, once, as pyarrow reads it.
    async fn expect_parquet_of_windows(&self, place: &str) -> anyhow::Result<()> {
        let records = self.read("action-aggregates").await?;
        let expected: Vec<_> = records
            .iter()
            .map(|record| Ok(((record.partition, record.offset), record.json()?)))
            .collect::<anyhow::Result<_>>()?;
        let held = eventually("Parquet holds the windows", CLOSED_WITHIN, async || {
            let read = script::command("parquet.py")?.arg(place).output().await?;
            ensure!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
            let mut rows = Vec::new();
            for line in read.stdout.lines() {
                let (partition, offset, window) = serde_json::from_str(&line?)?;
                rows.push(((partition, offset), window));
            }
            rows.sort_by_key(|(at, _): &((i32, i64), Value)| *at);
            let (found, wanted) = (rows.len(), expected.len());
            ensure!(rows == expected, "{found} rows of Parquet, {wanted} records in the topic");
            Ok(())
        });
        held.await.map_err(|error| self.with_logs(&error))
    }

    /// Waits until the files hold each record of the topic, once.
    async fn expect_files_of_windows(&self, directory: &Path) -> anyhow::Result<()> {
        let records = self.read("action-aggregates").await?;
        let values = records.into_iter().map(|it| it.value.context("a record without a value"));
        let mut expected = values.collect::<anyhow::Result<Vec<_>>>()?;
        expected.sort_unstable();
        let held = eventually("the files hold the windows", CLOSED_WITHIN, async || {
            let mut lines = Vec::new();
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with('.') {
                    let text = zstd::decode_all(&*std::fs::read(&path)?)?;
                    lines.extend(text.lines().map_while(Result::ok).map(String::into_bytes));
                }
            }
            lines.sort_unstable();
            let (found, wanted) = (lines.len(), expected.len());
            ensure!(lines == expected, "{found} lines in files, {wanted} records in the topic");
            Ok(())
        });
        held.await.map_err(|error| self.with_logs(&error))
    }

    async fn windows_of_rows(&self) -> anyhow::Result<Windows> {
        self.windows(
            "select date_trunc('minute', occurred_at), source, event_type, object_type,
                    count(*), count(distinct user_id)
               from events group by 1, 2, 3, 4",
        )
        .await
    }

    async fn windows_in_the_table(&self) -> anyhow::Result<Windows> {
        self.windows(
            "select window_start, source, event_type, object_type, count, users
               from action_aggregates",
        )
        .await
    }

    async fn windows(&self, query: &str) -> anyhow::Result<Windows> {
        let members = "source, event_type, coalesce(object_type, ''), count, users";
        let time = "to_char(start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')";
        let named = "it(start, source, event_type, object_type, count, users)";
        let rows = self
            .postgres()
            .await?
            .rows(&format!("select {time}, {members} from ({query}) as {named}"))
            .await?;
        let window = |row: &tokio_postgres::Row| {
            ([0, 1, 2, 3].map(|at| row.get(at)), (row.get(4), row.get(5)))
        };
        Ok(rows.iter().map(window).collect())
    }

    /// The last word of each window, each saying more than the one before.
    async fn windows_in_the_topic(&self) -> anyhow::Result<Windows> {
        let mut windows = Windows::new();
        for record in self.read("action-aggregates").await? {
            let window = record.json()?;
            let text = |name: &str| window[name].as_str().unwrap_or_default().to_owned();
            let number = |name: &str| window[name].as_i64().context("no number");
            let key = ["windowStart", "source", "type", "objectType"].map(text);
            let said = (number("count")?, number("users")?);
            let before = windows.insert(key, said);
            ensure!(
                before.is_none_or(|before| before.0 < said.0),
                "{window} says no more than {before:?}"
            );
        }
        Ok(windows)
    }

    /// What an instance of a program told the bus last.
    pub async fn reported(&self, service: &str) -> anyhow::Result<Option<Value>> {
        let reports = self.read("service-metrics").await?;
        let reports: Vec<_> = reports.iter().map(|it| it.json()).collect::<Result<_, _>>()?;
        Ok(reports.into_iter().rfind(|report| report["service"] == service))
    }
}
