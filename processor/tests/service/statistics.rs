//! Statistics follow the rows whatever happens to them on the way; the audit compares each facet.

use processor::commands;
use processor::config::{Command, Rebuild};
use processor::follow::folder::Deltas;
use serde_json::json;

use crate::installation::Installation;

fn action(n: u32) -> String {
    let (user, post) = (n % 97, n % 13);
    let at = format!("2026-03-{:02}T{:02}:{:02}:00Z", 1 + n % 9, n % 24, n % 60);
    let kind = ["like", "view", "share"][n as usize % 3];
    format!(
        r#"{{"eventId":"e{n}","userId":"u{user}","postId":"{post}","type":"{kind}","occurredAt":"{at}"}}"#
    )
}

async fn fold_all(tallyman: &Installation) -> usize {
    let mut client = tallyman.pool.get().await.unwrap();
    let mut folded = 0;
    for deltas in Deltas::ALL {
        loop {
            match deltas.fold(&mut client).await.unwrap() {
                0 => break,
                some => folded += some,
            }
        }
    }
    folded
}

#[tokio::test(flavor = "multi_thread")]
async fn folded_or_not_two_folders_or_none_the_statistics_equal_the_rows() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    for part in 0..4 {
        let actions: Vec<_> = (part * 500..part * 500 + 700).map(action).collect();
        tallyman.send(part as i32 % 2, &actions);
        tallyman.drained(i64::from(part + 1) * 700).await;
        tallyman.audit().await;
        let (one, other) = tokio::join!(fold_all(&tallyman), fold_all(&tallyman));
        assert!(one + other > 0, "there was something to fold");
        tallyman.audit().await;
    }
    assert_eq!(tallyman.number("select count(*) from users").await, 97);
    assert_eq!(
        tallyman.number("select max(no)::bigint from users").await,
        97,
        "no number is burnt"
    );
    processor.stop().await;
}

/// What ends a field, a row or all of it in Postgres' text formats, and what stands for nothing there.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_characters_get_one_number_each() {
    let tallyman = Installation::new().await;
    let names =
        ["\t", "\n", "\r\n", "\\", "\\.", "\\N", "\\t", "a\tb\\n", "{,}", "\"", "ü", "true"];
    let actions = |round: u32| -> Vec<String> {
        let action = |name: &&str| {
            json!({
                "eventId": format!("{round} {name}"), "userId": name, "type": name, "source": name,
                "objectType": name, "objectId": name,
            })
        };
        names.iter().map(|name| action(name).to_string()).collect()
    };
    for round in 1..=2 {
        // The second time nobody remembers them but Postgres.
        let processor = tallyman.start().await;
        tallyman.send(0, &actions(round));
        tallyman.drained(i64::from(round) * names.len() as i64).await;
        tallyman.audit().await;
        for (table, column) in [
            ("users", "id = user_id"),
            ("objects", "objects.object_type = e.object_type and objects.object_id = e.object_id"),
            (
                "action_kinds",
                "action_kinds.event_type = e.event_type and action_kinds.source = e.source",
            ),
            ("event_types", "event_types.event_type = e.event_type"),
        ] {
            let numbered =
                format!("select count(distinct no) from {table} join events as e on {column}");
            assert_eq!(tallyman.number(&numbered).await, names.len() as i64, "{table}");
        }
        processor.stop().await;
    }
    assert_eq!(tallyman.number("select max(no)::bigint from users").await, names.len() as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drift_is_found_and_a_rebuild_mends_it_while_events_come() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &(0..1_000).map(action).collect::<Vec<_>>());
    tallyman.drained(1_000).await;
    fold_all(&tallyman).await;
    tallyman.execute("delete from statistics_cells where facet = 5 and kind = 1").await;
    let audit = Command::Audit { config: Box::new(tallyman.config.clone()), wait_seconds: 1 };
    let found = commands::run(audit).await.unwrap();
    assert_eq!(found, std::process::ExitCode::FAILURE, "cells are missing");
    tallyman.send(1, &(1_000..3_000).map(action).collect::<Vec<_>>());
    let postgres = tallyman.config.postgres.clone();
    commands::run(Command::Rebuild(Rebuild::Statistics { postgres })).await.unwrap();
    tallyman.drained(3_000).await;
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rollups_and_statistics_only_what_trails_is_brought_up() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    tallyman.send(0, &(0..2_000).map(action).collect::<Vec<_>>());
    tallyman.drained(2_000).await;
    processor.stop().await;
    let rollups_forgotten = "
        truncate object_count_deltas, object_counts_by_object, users_of_days;
        update rollup_marks as m set next_offset = l.start_offset from consumer_ledger as l
         where l.source = m.source";
    tallyman.execute(rollups_forgotten).await;
    let processor = tallyman.start().await;
    tallyman.send(0, &(2_000..2_500).map(action).collect::<Vec<_>>());
    tallyman.drained(2_500).await;
    tallyman.audit().await;
    processor.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_while_it_adds_leaves_nothing_behind() {
    let tallyman = Installation::new().await;
    let processor = tallyman.start().await;
    // It has moved its mark and appended its delta when it comes to the days.
    let mut client = tallyman.pool.get().await.unwrap();
    let held = client.transaction().await.unwrap();
    held.batch_execute("lock statistics_days in access exclusive mode").await.unwrap();
    tallyman.send(0, &(0..3_000).map(action).collect::<Vec<_>>());
    let cut = "select count(pg_terminate_backend(pid)) from pg_locks
                where relation = 'statistics_days'::regclass and not granted";
    let mut cuts = 0;
    while cuts == 0 {
        cuts = tallyman.number(cut).await;
    }
    held.rollback().await.unwrap();
    tallyman.drained(3_000).await;
    tallyman.audit().await;
    processor.stop().await;
}
