//! Brings a database to the schema in `schemas/postgres`: each file once, in name order.

use anyhow::{Context, bail};
use tokio_postgres::Client;
use xxhash_rust::xxh3::xxh3_64;

struct Migration {
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($name:literal),+ $(,)?) => {
        &[$(Migration {
            name: $name,
            sql: include_str!(concat!("../../schemas/postgres/", $name, ".sql")),
        }),+]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    "0001_install",
    "0002_ledger",
    "0003_events",
    "0004_rollups",
    "0005_api_keys",
    "0006_notifications",
    "0007_collation",
    "0008_key_rotation",
    "0009_imports",
    "0010_key_successor",
    "0011_statistics",
    "0012_aggregates",
    "0013_rollups_by_number",
    "0014_rollups_folded",
    "0015_users_by_range",
    "0016_leaves_under_load",
    "0017_whole_read_backs",
];

/// Applies what is missing, each file in a transaction of its own, one migrator at a time. Returns
/// the names of the files applied now.
pub async fn migrate(client: &mut Client) -> anyhow::Result<Vec<&'static str>> {
    let lock =
        "select pg_advisory_lock(hashtextextended('tallyman/migrate/' || current_schema(), 0))";
    client.simple_query(lock).await.context("wait for other migrators")?;
    let applied = apply_missing(client).await;
    client.simple_query(&lock.replace("advisory_lock", "advisory_unlock")).await?;
    applied
}

/// Fails, and says what to do, unless every migration of this program is applied.
pub async fn require_current(client: &Client) -> anyhow::Result<()> {
    let applied = applied(client).await.unwrap_or_default();
    let missing: Vec<_> = MIGRATIONS
        .iter()
        .filter(|it| !applied.iter().any(|(name, _)| name == it.name))
        .map(|it| it.name)
        .collect();
    if !missing.is_empty() {
        bail!(
            "the database lacks the migrations {}; run `processor migrate` first",
            missing.join(", ")
        );
    }
    Ok(())
}

async fn apply_missing(client: &mut Client) -> anyhow::Result<Vec<&'static str>> {
    client
        .batch_execute(
            "create table if not exists schema_migrations (
                 name text primary key, checksum bigint not null,
                 applied_at timestamptz not null default now())",
        )
        .await?;
    let applied = applied(client).await?;
    let mut done = Vec::new();
    for migration in MIGRATIONS {
        let checksum = xxh3_64(migration.sql.as_bytes()).cast_signed();
        match applied.iter().find(|(name, _)| name == migration.name) {
            Some((_, known)) if *known == checksum => continue,
            Some(_) => bail!(
                "migration {} was applied with another content: a migration never changes, a new \
                 one is added",
                migration.name
            ),
            None => {}
        }
        let transaction = client.transaction().await?;
        transaction
            .batch_execute(migration.sql)
            .await
            .with_context(|| format!("apply migration {}", migration.name))?;
        transaction
            .execute(
                "insert into schema_migrations (name, checksum) values ($1, $2)",
                &[&migration.name, &checksum],
            )
            .await?;
        transaction.commit().await?;
        done.push(migration.name);
    }
    Ok(done)
}

async fn applied(client: &Client) -> Result<Vec<(String, i64)>, tokio_postgres::Error> {
    let rows = client.query("select name, checksum from schema_migrations", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
