//! What breaks while events keep coming: exact afterwards, and nothing acknowledged is lost.
//!
//! `TALLYMAN_FAULTS=long` does more of everything; `TALLYMAN_KEEP=1` leaves logs and the data of private
//! servers behind to look into.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use tests::events::Expected;
use tests::random::{Random, seed};
use tests::{Installation, Load, PrivateServer, Program, Servers, Way, Workload, eventually};
use tokio::time::sleep;

/// Where the processor is killed, and at which pass, so that something was done before.
const PROCESSOR_KILL_POINTS: [&str; 17] = [
    "before_judge_begin:2",
    "judge_after_ledger:2",
    "judge_after_keys:2",
    "judge_before_commit:3",
    "judge_after_commit:2",
    "counters_between_steps:1",
    "counters_after:2",
    "numbering_before_commit:2",
    "rollups_after_numbering:1",
    "rollups_before_commit:2",
    "rollups_after_commit:1",
    "fold_before_commit:1",
    "fold_after_commit:1",
    "relay_before_send:2",
    "relay_before_commit:2",
    "relay_after_commit:2",
    "seen_before_learn:2",
];

const ALERTER_KILL_POINTS: [&str; 12] = [
    "alerter_in_transaction:2",
    "alerter_before_commit:2",
    "alerter_after_commit:2",
    "alerter_after_restore:2",
    "totals_in_transaction:2",
    "totals_before_commit:2",
    "totals_after_commit:2",
    "totals_after_restore:2",
    "aggregates_postgres_before_commit:2",
    "aggregates_postgres_after_commit:2",
    "aggregates_files_before_rename:2",
    "aggregates_files_after_rename:2",
];

/// A killed member keeps its partitions until its session ends, after 10 s.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(60);

fn is_long() -> bool {
    std::env::var("TALLYMAN_FAULTS").is_ok_and(|it| it == "long")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_processor_may_die_at_every_kill_point() -> anyhow::Result<()> {
    let seed = seed("the_processor_may_die_at_every_kill_point");
    let cases = PROCESSOR_KILL_POINTS.map(|point| (point, processor_dies_at(point, seed)));
    all_hold(cases).await?;
    Ok(())
}

async fn processor_dies_at(point: &str, seed: u64) -> anyhow::Result<()> {
    let mut tallyman = Installation::new().await?;
    tallyman.set("FOLD_SECONDS", "1");
    // Large batches, so that counters take several steps.
    let burst = Workload::new(seed).sendings(6_000, 20);
    tallyman.kcat(&burst, Way::KcatKeyedWrongly).await?;
    let mut processor = tallyman.start_to_die("processor", point)?;
    let load = Load::start(&tallyman, None, seed, 200)?;
    processor.dies_at_its_kill_point(TAKEN_OVER_WITHIN).await?;
    let mut processor = tallyman.start_processor()?;
    tallyman.progress(TAKEN_OVER_WITHIN).await?;
    let mut expected = load.stop().await?;
    expected.merge(&burst);
    tallyman.expect_exact(&expected).await?;
    processor.stop().await
}

/// Before anything is acknowledged, behind the third chunk, and with nothing left but to say so.
const IMPORT_KILL_POINTS: [&str; 3] = ["import_published:30", "import_settled:3", "import_kept:1"];

#[tokio::test(flavor = "multi_thread")]
async fn an_import_may_die_at_every_kill_point_and_each_row_is_stored_once() -> anyhow::Result<()> {
    let seed = seed("an_import_may_die_at_every_kill_point_and_each_row_is_stored_once");
    let tallyman = Installation::new().await?;
    let mut processor = tallyman.start_processor()?;
    let rows = Workload::new(seed).sendings(20_000, 20);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("events.ndjson");
    let lines: Vec<_> = rows.iter().map(|row| row.json.as_str()).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let import = ["import", file.to_str().context("a temporary path is text")?];
    for point in IMPORT_KILL_POINTS {
        tallyman.run_to_die("gateway", &import, point).await?;
    }
    let summary = tallyman.run("gateway", &import).await?;
    ensure!(summary.contains("\"accepted\":20000"), "{summary}");
    let state = tallyman.expect_exact(&Expected::of(&rows)).await?;
    ensure!(state.records > 20_000, "no kill made a repeat: {state}");
    processor.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_waits_for_a_broker_that_crashed() -> anyhow::Result<()> {
    let kafka = PrivateServer::start("kafka").await?;
    let servers = Servers { brokers: kafka.url().await?, ..Servers::shared()? };
    let tallyman = Installation::on(servers).await?;
    let mut processor = tallyman.start_processor()?;
    let rows =
        Workload::new(seed("an_import_waits_for_a_broker_that_crashed")).sendings(200_000, 0);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("events.ndjson");
    let lines: Vec<_> = rows.iter().map(|row| row.json.as_str()).collect();
    std::fs::write(&file, lines.join("\n"))?;
    let import = ["import", file.to_str().context("a temporary path is text")?];
    let crash = async {
        tallyman.progress(TAKEN_OVER_WITHIN).await?;
        kafka.kill().await?;
        let judged = tallyman.judged().await?;
        sleep(Duration::from_secs(3)).await;
        kafka.start_again().await?;
        anyhow::Ok(judged)
    };
    let (summary, judged) = tokio::try_join!(tallyman.run("gateway", &import), crash)?;
    ensure!(judged < 200_000, "all was imported before the broker crashed");
    ensure!(summary.contains("\"accepted\":200000"), "{summary}");
    tallyman.expect_exact(&Expected::of(&rows)).await?;
    processor.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alerter_may_die_at_every_kill_point() -> anyhow::Result<()> {
    let seed = seed("the_alerter_may_die_at_every_kill_point");
    let dies = async |point| alerter_dies_at(with_all_sinks().await?, point, seed).await;
    let cases = ALERTER_KILL_POINTS.map(|point| (point, dies(point)));
    all_hold(cases).await?;
    Ok(())
}

async fn with_all_sinks() -> anyhow::Result<Installation> {
    let mut tallyman = Installation::new().await?;
    tallyman.set_all_sinks();
    Ok(tallyman)
}

pub async fn alerter_dies_at(tallyman: Installation, point: &str, seed: u64) -> anyhow::Result<()> {
    let burst = Workload::new(seed).sendings(4_000, 20);
    tallyman.kcat(&burst, Way::KcatWithoutKeys).await?;
    let mut processor = tallyman.start_processor()?;
    let mut alerter = tallyman.start_to_die("alerter", point)?;
    let load = Load::start(&tallyman, None, seed, 200)?;
    alerter.dies_at_its_kill_point(TAKEN_OVER_WITHIN).await?;
    let mut alerter = tallyman.start_alerter()?;
    tallyman.alerter_progress(TAKEN_OVER_WITHIN).await?;
    let mut expected = load.stop().await?;
    expected.merge(&burst);
    tallyman.expect_exact(&expected).await?;
    tallyman.expect_milestones(&expected).await?;
    tallyman.expect_windows().await?;
    processor.stop().await?;
    alerter.stop().await
}

/// Five installations, five rounds each: 25 processors and 25 alerters die.
#[tokio::test(flavor = "multi_thread")]
async fn processors_and_alerters_may_die_at_any_moment_under_load() -> anyhow::Result<()> {
    let seed = seed("processors_and_alerters_may_die_at_any_moment_under_load");
    let (rounds, rate) = if is_long() { (40, 1_500) } else { (5, 600) };
    let cases = [1, 2, 3, 4, 5].map(|it| {
        let seed = seed + it;
        let kills = async move { random_kills(with_all_sinks().await?, seed, rounds, rate).await };
        (format!("TALLYMAN_SEED={seed}"), kills)
    });
    all_hold(cases).await?;
    Ok(())
}

pub async fn random_kills(
    tallyman: Installation,
    seed: u64,
    rounds: usize,
    rate: usize,
) -> anyhow::Result<()> {
    let mut random = Random::of(seed);
    let (mut gateway, http) = tallyman.start_gateway().await?;
    let mut processors = [tallyman.start_processor()?, tallyman.start_processor()?];
    let mut alerter = tallyman.start_alerter()?;
    let load = Load::start(&tallyman, Some(&http), seed, rate)?;
    for _ in 0..rounds {
        let victim = owner(&processors, &mut random).await?;
        tallyman.alerter_progress(TAKEN_OVER_WITHIN).await?;
        sleep(Duration::from_millis(random.below(500))).await;
        processors[victim].kill().await?;
        sleep(Duration::from_millis(random.below(500))).await;
        alerter.kill().await?;
        processors[victim] = tallyman.start_processor()?;
        alerter = tallyman.start_alerter()?;
    }
    tallyman.progress(TAKEN_OVER_WITHIN).await?;
    let expected = load.stop().await?;
    tallyman.expect_exact(&expected).await?;
    tallyman.expect_milestones(&expected).await?;
    tallyman.expect_windows().await?;
    for program in processors.iter_mut().chain([&mut alerter, &mut gateway]) {
        program.stop().await?;
    }
    Ok(())
}

/// Which of the processors to kill: one that has partitions and judges them.
async fn owner(processors: &[Program], random: &mut Random) -> anyhow::Result<usize> {
    eventually("a processor owns partitions", TAKEN_OVER_WITHIN, async || {
        let tried = random.index(processors.len());
        let owned = processors[tried].metric("processor_partitions_owned").await;
        ensure!(owned > 0.0, "processor {tried} owns none");
        Ok(tried)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_forget_everything_under_load() -> anyhow::Result<()> {
    let seed = seed("redis_may_forget_everything_under_load");
    let redis = PrivateServer::start("redis").await?;
    let tallyman = with_private_redis(&redis).await?;
    let burst = Workload::new(seed).sendings(6_000, 20);
    tallyman.kcat(&burst, Way::KcatWithoutKeys).await?;
    let mut processors = [tallyman.start_processor()?, tallyman.start_processor()?];
    let load = Load::start(&tallyman, None, seed, 500)?;
    for _ in 0..if is_long() { 30 } else { 3 } {
        tallyman.progress(TAKEN_OVER_WITHIN).await?;
        tallyman.redis().await?.flush_all().await?;
        tallyman.counters_are_rebuilt().await?;
    }
    tallyman.redis().await?.flush_all().await?;
    let mut expected = load.stop().await?;
    expected.merge(&burst);
    tallyman.expect_exact(&expected).await?;
    for processor in &mut processors {
        processor.stop().await?;
    }
    Ok(())
}

/// And no event comes that would make a processor look there.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_idle_redis_forgets_is_restored() -> anyhow::Result<()> {
    let seed = seed("what_an_idle_redis_forgets_is_restored");
    let redis = PrivateServer::start("redis").await?;
    let tallyman = with_private_redis(&redis).await?;
    let sendings = Workload::new(seed).sendings(4_000, 20);
    let (before, after) = sendings.split_at(2_000);
    let mut processor = tallyman.start_processor()?;
    let mut expected = Expected::of(before);
    tallyman.kcat(before, Way::KcatWithoutKeys).await?;
    tallyman.expect_exact(&expected).await?;
    redis.back_up().await?;
    tallyman.kcat(after, Way::KcatWithoutKeys).await?;
    expected.merge(after);
    tallyman.expect_exact(&expected).await?;
    redis.restore().await?;
    tallyman.expect_exact(&expected).await?;
    tallyman.redis().await?.flush_all().await?;
    tallyman.expect_exact(&expected).await?;
    processor.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ingestion_goes_on_while_redis_is_away() -> anyhow::Result<()> {
    let seed = seed("ingestion_goes_on_while_redis_is_away");
    let redis = PrivateServer::start("redis").await?;
    let tallyman = with_private_redis(&redis).await?;
    let mut processor = tallyman.start_processor()?;
    let load = Load::start(&tallyman, None, seed, 500)?;
    tallyman.progress(TAKEN_OVER_WITHIN).await?;
    redis.kill().await?;
    let before = tallyman.judged().await?;
    sleep(Duration::from_secs(if is_long() { 120 } else { 20 })).await;
    let judged = tallyman.judged().await? - before;
    ensure!(judged > 5_000, "{judged} of about 10,000 records were judged while Redis was away");
    redis.start_again().await?;
    let expected = load.stop().await?;
    tallyman.expect_exact(&expected).await?;
    processor.stop().await?;
    Ok(())
}

async fn with_private_redis(redis: &PrivateServer) -> anyhow::Result<Installation> {
    Installation::on(Servers { redis_url: redis.url().await?, ..Servers::shared()? }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_be_restarted_and_may_crash() -> anyhow::Result<()> {
    let postgres = PrivateServer::start("postgres").await?;
    let servers = Servers { database_url: postgres.url().await?, ..Servers::shared()? };
    let tallyman = Installation::on(servers).await?;
    restarts(&tallyman, &postgres, seed("postgres_may_be_restarted_and_may_crash")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_may_be_restarted_and_may_crash() -> anyhow::Result<()> {
    let kafka = PrivateServer::start("kafka").await?;
    let servers = Servers { brokers: kafka.url().await?, ..Servers::shared()? };
    let tallyman = Installation::on(servers).await?;
    restarts(&tallyman, &kafka, seed("the_broker_may_be_restarted_and_may_crash")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_a_broker_never_marks_stop_no_partition() -> anyhow::Result<()> {
    let settings = vec![("KAFKA_KEEPS_LEADERSHIP", "1".to_owned())];
    let kafka = PrivateServer::start_with("kafka", settings).await?;
    let servers = Servers { brokers: kafka.url().await?, ..Servers::shared()? };
    let tallyman = Installation::on(servers).await?;
    let seed = seed("transactions_that_a_broker_never_marks_stop_no_partition");
    let sendings = Workload::new(seed).sendings(6_000, 20);
    let (before, after) = sendings.split_at(3_000);
    let mut expected = Expected::of(before);
    let way = Way::KcatWithoutKeys;
    let mut programs = [tallyman.start_processor()?, tallyman.start_alerter()?];
    tallyman.kcat(before, way).await?;
    tallyman.expect_exact(&expected).await?;
    tallyman.expect_windows().await?;
    for program in &mut programs {
        program.stop().await?;
    }
    // About one crash in five leaves something.
    let hanging = tallyman.leave_unmarked(&kafka, if is_long() { 30 } else { 1 }).await?;
    ensure!(hanging > 0 || !is_long(), "30 crashes have left no transaction hanging");
    let mut programs = [tallyman.start_processor()?, tallyman.start_alerter()?];
    tallyman.kcat(after, way).await?;
    expected.merge(after);
    tallyman.expect_exact(&expected).await?;
    tallyman.expect_milestones(&expected).await?;
    tallyman.expect_windows().await?;
    for program in &mut programs {
        program.stop().await?;
    }
    Ok(())
}

/// Stops the server in good order, then crashes it, while clients send again what was not
/// acknowledged; what was must be there, once.
async fn restarts(
    tallyman: &Installation,
    server: &PrivateServer,
    seed: u64,
) -> anyhow::Result<()> {
    let (mut gateway, http) = tallyman.start_gateway().await?;
    let mut processors = [tallyman.start_processor()?, tallyman.start_processor()?];
    let mut alerter = tallyman.start_alerter()?;
    let load = Load::start(tallyman, Some(&http), seed, 300)?;
    for _ in 0..if is_long() { 10 } else { 1 } {
        tallyman.progress(TAKEN_OVER_WITHIN).await?;
        server.stop().await?;
        server.start_again().await?;
        tallyman.progress(TAKEN_OVER_WITHIN).await?;
        server.kill().await?;
        // Long enough for clients to be refused.
        sleep(Duration::from_secs(3)).await;
        server.start_again().await?;
        tallyman.progress(TAKEN_OVER_WITHIN).await?;
    }
    let expected = load.stop().await?;
    tallyman.expect_exact(&expected).await?;
    tallyman.expect_milestones(&expected).await?;
    tallyman.expect_windows().await?;
    for program in processors.iter_mut().chain([&mut alerter, &mut gateway]) {
        program.ensure_running()?;
        program.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_that_wakes_up_changes_nothing() -> anyhow::Result<()> {
    let seed = seed("a_zombie_that_wakes_up_changes_nothing");
    let cases = [("inside its transaction", true), ("anywhere", false)];
    let cases = cases.map(|(place, inside)| (place, zombie(seed, inside)));
    all_hold(cases).await?;
    Ok(())
}

async fn zombie(seed: u64, inside_its_transaction: bool) -> anyhow::Result<()> {
    let tallyman = Installation::new().await?;
    let mut zombie = tallyman.start_processor()?;
    let load = Load::start(&tallyman, None, seed, 1_000)?;
    tallyman.progress(TAKEN_OVER_WITHIN).await?;
    if inside_its_transaction {
        stop_inside_a_transaction(&tallyman, &zombie).await?;
    } else {
        zombie.signal("STOP").await?;
    }
    let mut heir = tallyman.start_processor()?;
    eventually("the heir owns all partitions", TAKEN_OVER_WITHIN, async || {
        let owned = heir.metric("processor_partitions_owned").await;
        ensure!(owned == 4.0, "it owns {owned}");
        Ok(())
    })
    .await
    .map_err(|error| tallyman.with_logs(&error))?;
    tallyman.progress(TAKEN_OVER_WITHIN).await?;
    zombie.signal("CONT").await?;
    // The group gives it partitions again: it lives, and judges under a new epoch.
    eventually("the zombie owns partitions again", TAKEN_OVER_WITHIN, async || {
        zombie.ensure_running()?;
        let owned = heir.metric("processor_partitions_owned").await;
        ensure!(owned < 4.0, "the heir still owns all");
        let owned = zombie.metric("processor_partitions_owned").await;
        ensure!(owned > 0.0, "the zombie owns none");
        Ok(())
    })
    .await
    .map_err(|error| tallyman.with_logs(&error))?;
    tallyman.progress(TAKEN_OVER_WITHIN).await?;
    let expected = load.stop().await?;
    tallyman.expect_exact(&expected).await?;
    zombie.stop().await?;
    heir.stop().await
}

/// Stops it while it holds locks on the keys: nobody else can insert those until it is fenced.
async fn stop_inside_a_transaction(
    tallyman: &Installation,
    processor: &Program,
) -> anyhow::Result<()> {
    let postgres = tallyman.postgres().await?;
    let locks = format!(
        "select count(*) from pg_locks l join pg_class c on c.oid = l.relation
          where l.mode = 'RowExclusiveLock' and c.relname = 'event_keys'
            and c.relnamespace = '{}'::regnamespace",
        tallyman.id
    );
    eventually("it is stopped inside a transaction", Duration::from_secs(60), async || {
        ensure!(postgres.number(&locks).await? > 0, "no transaction at this moment");
        processor.signal("STOP").await?;
        // What was on its way to Postgres when it was stopped may still end the transaction.
        sleep(Duration::from_millis(50)).await;
        if postgres.number(&locks).await? == 0 {
            processor.signal("CONT").await?;
            ensure!(false, "the transaction ended before the process was stopped");
        }
        Ok(())
    })
    .await
}

/// Runs each case to its end, as many at a time as there are places; then names those that failed.
pub async fn all_hold<N: std::fmt::Display>(
    cases: impl IntoIterator<Item = (N, impl Future<Output = anyhow::Result<()>>)>,
) -> anyhow::Result<()> {
    let cases = cases.into_iter().map(async |(name, case)| {
        let began = std::time::Instant::now();
        let held = case.await.with_context(|| format!("case {name}"));
        let verdict = if held.is_ok() { "holds" } else { "FAILED" };
        println!("{name} {verdict} after {:.0?}", began.elapsed());
        held
    });
    let held = join_all(cases).await;
    let failed: Vec<_> =
        held.into_iter().filter_map(Result::err).map(|error| format!("{error:#}")).collect();
    ensure!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}
