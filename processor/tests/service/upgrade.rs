//! What an installation held before a migration that moves data, it holds afterwards.

use std::fs;
use std::path::PathBuf;

use crate::installation::Installation;

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/postgres");

/// Applies the migrations whose file names lie in the range, in order.
async fn apply(tallyman: &Installation, is_meant: impl Fn(&str) -> bool) {
    let files = fs::read_dir(MIGRATIONS).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|it| is_meant(it.file_name().unwrap().to_str().unwrap())).collect();
    files.sort();
    for file in files {
        tallyman.execute(&fs::read_to_string(file).unwrap()).await;
    }
}

/// Two posts and two people are numbered, the others are not; names may be empty.
const BY_NAMES: &str = "
    insert into users (id) values ('u1'), ('u2');
    insert into objects (object_type, object_id) values ('post', '1'), ('', '');
    insert into object_counts_by_partition (source, object_type, object_id, event_type, count)
    select source, type, id::text, event, source + id
      from generate_series(1, 3) as source, generate_series(1, 40) as id,
           unnest(array['post', 'ü']) as type, unnest(array['like', '']) as event;
    insert into object_counts_by_partition values (1, '', '', '', 7);
    insert into daily_users
    select date '2026-03-01' + day, 'u' || no from generate_series(0, 3) as day, generate_series(day, 50) as no;
    insert into daily_active_by_partition select 1, day, count(*) from daily_users group by day;
    create table counts_by_name as table object_counts;
    create table users_by_name as table daily_users;
    create table active_by_name as table daily_active";

#[tokio::test]
async fn rollups_by_name_are_the_same_by_number_and_folded() {
    let tallyman = Installation::new().await;
    let emptied = "do $$ declare name text := current_schema; begin
                       execute format('drop schema %I cascade', name);
                       execute format('create schema %I', name);
                   end $$";
    tallyman.execute(emptied).await;
    apply(&tallyman, |name| name < "0013").await;
    tallyman.execute(BY_NAMES).await;
    apply(&tallyman, |name| name >= "0013").await;
    for (before, after) in [
        ("counts_by_name", "object_counts"),
        ("users_by_name", "daily_users"),
        ("active_by_name", "daily_active"),
    ] {
        let differing = format!(
            "select count(*) from ((table {before} except all table {after})
                                   union all (table {after} except all table {before})) as it"
        );
        assert_eq!(tallyman.number(&differing).await, 0, "{after}");
        assert!(tallyman.number(&format!("select count(*) from {after}")).await > 0);
    }
    for names in ["users", "objects", "event_types"] {
        let burnt = format!("select max(no) - count(*) from {names}");
        assert_eq!(tallyman.number(&burnt).await, 0, "numbers of {names} are burnt");
    }
}
