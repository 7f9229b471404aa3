//! One Tallyman for one test: topics, groups, a schema and a Redis database of its own.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use common::config::KafkaConfig;
use common::kafka::{GroupOffsets, TopicPartition, ensure_topics};
use common::topic;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::events::{Event, Expected};
use crate::kafka::{Read, delete_topics, read_all};
use crate::program::{self, Program, tail};
use crate::random::fresh_id;
use crate::send::{HttpSender, Raw, Way, kcat, produce, produce_with_headers};
use crate::servers::{directory, keeps_what_tests_leave};
use crate::state::State;
use crate::{Servers, eventually, postgres, redis};

/// As long as anything may take to get through after the last fault.
const DRAIN_WITHIN: Duration = Duration::from_secs(120);

/// What a topic has when the programs create it.
pub const PARTITIONS: i32 = 4;

pub struct Installation {
    /// Prefix of topics and groups, name of the schema.
    pub id: String,
    /// With the schema and the database number in their addresses.
    pub servers: Servers,
    pub settings: Vec<(String, String)>,
    pub write_key: String,
    logs: Mutex<Vec<PathBuf>>,
    directory: TempDir,
    _place: SemaphorePermit<'static>,
}

/// Installations at a time, in all tests together: with eleven on two cores the broker took more than 5 s to
/// answer, and what was tested was the patience of clients (tried).
static PLACES: Semaphore = Semaphore::const_new(4);

impl Installation {
    /// A new installation on the shared servers.
    pub async fn new() -> anyhow::Result<Self> {
        Self::on(Servers::shared()?).await
    }

    /// A new installation on these servers: migrated, and with a key that may write.
    pub async fn on(mut servers: Servers) -> anyhow::Result<Self> {
        common::tls::choose();
        let place = PLACES.acquire().await?;
        let id = fresh_id();
        let connection = postgres::Connection::open(&servers.database_url).await?;
        connection.run(&format!("create schema {id}")).await?;
        let joint = if servers.database_url.contains('?') { '&' } else { '?' };
        servers.database_url.push_str(&format!("{joint}options=-c%20search_path%3D{id}"));
        servers.redis_url = own_redis_database(&servers.redis_url).await?;
        let mut installation = Self {
            settings: settings(&id, &servers),
            id,
            servers,
            write_key: String::new(),
            logs: Mutex::default(),
            directory: directory("tallyman")?,
            _place: place,
        };
        ensure_topics(&installation.kafka(), &topic::all()).await?;
        installation.run("processor", &["migrate"]).await?;
        let key = ["keys", "create", "--name", "test", "--rights", "write"];
        installation.write_key = installation.run("gateway", &key).await?;
        Ok(installation)
    }

    /// A setting of all programs started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Where its programs may keep files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    /// Runs an operator's command, which must succeed; its standard output, trimmed.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let command = program::command(program, arguments, &self.settings)?;
        let ran = program::output(command, Duration::from_secs(120)).await?;
        let (out, err) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        let line = arguments.join(" ");
        ensure!(ran.status.success(), "`{program} {line}` ended with {}: {out}{err}", ran.status);
        Ok(out.trim().to_owned())
    }

    /// Runs an operator's command that dies at a kill point.
    pub async fn run_to_die(
        &self,
        program: &str,
        arguments: &[&str],
        kill_point: &str,
    ) -> anyhow::Result<()> {
        let mut command = program::command(program, arguments, &self.settings)?;
        command.env("TALLYMAN_KILL_AT", kill_point);
        let ran = program::output(command, Duration::from_secs(120)).await?;
        let err = String::from_utf8_lossy(&ran.stderr);
        ensure!(
            ran.status.signal() == Some(9),
            "not killed at {kill_point}: {}: {err}",
            ran.status
        );
        Ok(())
    }

    /// Starts a processor; whoever needs it to be ready waits for that.
    pub fn start_processor(&self) -> anyhow::Result<Program> {
        self.start("processor", &[])
    }

    pub fn start_alerter(&self) -> anyhow::Result<Program> {
        self.start("alerter", &[])
    }

    /// Starts a program that dies at a kill point: `name`, or `name:n` for the n-th pass.
    pub fn start_to_die(&self, program: &str, kill_point: &str) -> anyhow::Result<Program> {
        self.start(program, &[("TALLYMAN_KILL_AT".to_owned(), kill_point.to_owned())])
    }

    /// Starts a gateway and waits until it takes events.
    pub async fn start_gateway(&self) -> anyhow::Result<(Program, HttpSender)> {
        let mut gateway = self.start("gateway", &[])?;
        gateway.ready().await?;
        let url = format!("http://{}", gateway.address);
        Ok((gateway, HttpSender::new(url, self.write_key.clone())?))
    }

    /// Stops a program and starts it again at its address.
    pub async fn restart(&self, program: &mut Program) -> anyhow::Result<()> {
        program.stop().await?;
        let (name, address) = (program.name.clone(), program.address.clone());
        *program = Program::start_at(&name, &self.settings, self.directory.path(), &address)?;
        program.ready().await
    }

    fn start(&self, name: &str, more: &[(String, String)]) -> anyhow::Result<Program> {
        let settings = [&self.settings[..], more].concat();
        let program = Program::start(name, &settings, self.directory.path())?;
        self.logs.lock().expect("no test panics with the lock").push(program.log().to_owned());
        Ok(program)
    }

    /// Sends events by kcat, which ends when the broker has them.
    pub async fn kcat(&self, events: &[Event], way: Way) -> anyhow::Result<()> {
        kcat(&self.servers.brokers, &self.topic("user-actions"), events, way).await
    }

    /// Produces records of any bytes.
    pub async fn produce(&self, records: &[Raw]) -> anyhow::Result<()> {
        produce(&self.kafka(), &self.topic("user-actions"), records).await
    }

    /// Produces a record with headers to one of this installation's topics.
    pub async fn produce_with_headers(
        &self,
        topic: &str,
        headers: &[(&str, &str)],
        value: &str,
    ) -> anyhow::Result<()> {
        produce_with_headers(&self.kafka(), &self.topic(topic), headers, value).await
    }

    pub async fn postgres(&self) -> anyhow::Result<postgres::Connection> {
        postgres::Connection::open(&self.servers.database_url).await
    }

    pub async fn redis(&self) -> anyhow::Result<redis::Connection> {
        redis::Connection::open(&self.servers.redis_url).await
    }

    /// The committed records of one of this installation's topics.
    pub async fn read(&self, topic: &str) -> anyhow::Result<Vec<Read>> {
        read_all(&self.servers.brokers, &self.topic(topic)).await
    }

    /// Offsets judged so far, summed over the partitions.
    pub async fn judged(&self) -> anyhow::Result<i64> {
        self.postgres().await?.number("select sum(next_offset)::bigint from consumer_ledger").await
    }

    /// Waits until something more was judged than before.
    pub async fn progress(&self, within: Duration) -> anyhow::Result<()> {
        let before = self.judged().await?;
        let moved = eventually("something is judged", within, async || {
            ensure!(self.judged().await? > before, "the ledger stays at {before}");
            Ok(())
        });
        moved.await.map_err(|error| self.with_logs(&error))
    }

    /// Waits until the counters of a Redis that has forgotten everything are live again.
    pub async fn counters_are_rebuilt(&self) -> anyhow::Result<()> {
        let live = eventually("the counters are rebuilt", DRAIN_WITHIN, async || {
            let state = self.redis().await?.hash_text("tm:counters", "state").await?;
            ensure!(state.as_deref() == Some("live"), "the state of the counters is {state:?}");
            Ok(())
        });
        live.await.map_err(|error| self.with_logs(&error))
    }

    /// Waits until every record is judged and every follower has reached the ledger.
    pub async fn wait_drained(&self) -> anyhow::Result<()> {
        let offsets = self.group_offsets("processor")?;
        let drained = eventually("everything is drained", DRAIN_WITHIN, async || {
            self.drained(&offsets).await
        });
        drained.await.map_err(|error| self.with_logs(&error))
    }

    /// Waits for the pipeline to come to rest; then every place must hold each event exactly once,
    /// and the auditor must agree.
    pub async fn expect_exact(&self, expected: &Expected) -> anyhow::Result<State> {
        self.wait_drained().await?;
        let state = self.tally().await?;
        println!("{}: {state}", self.id);
        let differences = state.differences(expected);
        if !differences.is_empty() {
            let wrong = anyhow!("not exact: {state}\n  {}", differences.join("\n  "));
            return Err(self.with_logs(&wrong));
        }
        self.run("processor", &["audit"]).await.map_err(|error| self.with_logs(&error))?;
        Ok(state)
    }

    /// An error that also shows how the log of every program ends.
    pub fn with_logs(&self, error: &anyhow::Error) -> anyhow::Error {
        let logs = self.logs.lock().expect("no test panics with the lock");
        let tails: Vec<_> = logs.iter().map(|log| tail(log)).collect();
        anyhow!("installation {}: {error:#}\n{}", self.id, tails.concat())
    }

    async fn drained(&self, offsets: &GroupOffsets) -> anyhow::Result<()> {
        let (postgres, redis) = (self.postgres().await?, self.redis().await?);
        let sources = postgres
            .rows(
                "select partition, source, l.next_offset,
                        least(coalesce(m.next_offset, 0), coalesce(s.next_offset, 0))
                   from consumer_ledger l left join rollup_marks m using (source)
                                          left join statistics_marks s using (source)",
            )
            .await?;
        for partition in 0..PARTITIONS {
            let input = self.partition("user-actions", partition);
            let end = offsets.watermarks(&input).await?.high;
            let relayed = offsets.committed(&input).await?.unwrap_or(0);
            ensure!(relayed >= end, "{input}: relayed up to {relayed} of {end}");
            let Some(row) = sources.iter().find(|row| row.get::<_, i32>(0) == partition) else {
                ensure!(end == 0, "{input}: nobody has taken it");
                continue;
            };
            let (source, judged, rolled): (i32, i64, i64) = (row.get(1), row.get(2), row.get(3));
            ensure!(judged >= end, "{input}: judged up to {judged} of {end}");
            ensure!(rolled >= judged, "{input}: rolled up to {rolled} of {judged}");
            let counted = redis.hash_number("tm:counters", &source.to_string()).await?.unwrap_or(0);
            ensure!(counted >= judged, "{input}: counted up to {counted} of {judged}");
        }
        for row in postgres.rows("select 'dau:' || day, users from daily_active").await? {
            let (day, users): (&str, i64) = (row.get(0), row.get(1));
            let shown = redis.number(day).await?;
            ensure!(shown == Some(users), "{day} is {shown:?} in Redis, {users} in Postgres");
        }
        Ok(())
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic(topic), partition }
    }

    pub(crate) fn group_offsets(&self, group: &str) -> anyhow::Result<GroupOffsets> {
        Ok(GroupOffsets::of(&self.kafka(), &format!("{}-{group}", self.id))?)
    }

    pub(crate) fn kafka(&self) -> KafkaConfig {
        KafkaConfig {
            kafka_brokers: self.servers.brokers.clone(),
            kafka_topic_prefix: format!("{}-", self.id),
            kafka_partitions: PARTITIONS,
            kafka_options: Vec::new(),
        }
    }
}

impl Drop for Installation {
    /// One broker serves all tests of a run, and would keep what each leaves: 3,000 partitions at the end, 75 MiB
    /// of its heap (measured).
    fn drop(&mut self) {
        if keeps_what_tests_leave() {
            return;
        }
        let deleting = async || delete_topics(&self.servers.brokers, &self.topic("")).await;
        // Not on this thread: its runtime would take what wakes other cases of the test for its own (tried).
        let deleted = std::thread::scope(|scope| {
            scope.spawn(|| Runtime::new()?.block_on(deleting())).join().expect("nothing panics")
        });
        if let Err(error) = deleted {
            eprintln!("the topics of {} stay: {error:#}", self.id);
        }
    }
}

/// Takes the next of the server's databases and empties it.
async fn own_redis_database(redis_url: &str) -> anyhow::Result<String> {
    let server = redis_url.split('/').take(3).collect::<Vec<_>>().join("/");
    let taken = redis::Connection::open(&server).await?.increment("tests:databases-taken").await?;
    // fred reads an index as a byte.
    let url = format!("{server}/{}", 1 + taken % 255);
    redis::Connection::open(&url).await?.flush_database().await.context("FLUSHDB")?;
    Ok(url)
}

fn settings(id: &str, servers: &Servers) -> Vec<(String, String)> {
    let settings = [
        ("KAFKA_BROKERS", servers.brokers.clone()),
        ("KAFKA_TOPIC_PREFIX", format!("{id}-")),
        ("DATABASE_URL", servers.database_url.clone()),
        ("REDIS_URL", servers.redis_url.clone()),
        ("CONSUMER_GROUP", format!("{id}-processor")),
        ("ALERTER_GROUP", format!("{id}-alerter")),
        // Several installations share the connections of one server.
        ("DATABASE_CONNECTIONS_MAX", "6".to_owned()),
        ("LOG_LEVEL", "info".to_owned()),
        ("NO_COLOR", "1".to_owned()),
    ];
    settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
