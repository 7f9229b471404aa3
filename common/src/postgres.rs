//! Postgres connections from their configuration, and snapshots on them.

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::{
    Client, Manager, ManagerConfig, Pool, PoolBuilder, RecyclingMethod, Runtime, Transaction,
};
use tokio_postgres::{IsolationLevel, NoTls};

use crate::config::PostgresConfig;

/// The name our sessions bear in `pg_stat_activity`: who terminates blockers must know its own.
pub fn application_name(daemon: &str) -> String {
    format!("tallyman-{daemon}")
}

/// A pool that connects on first use.
pub fn pool(config: &PostgresConfig, daemon: &str) -> anyhow::Result<Pool> {
    pool_builder(config, daemon)?.build().context("build the Postgres pool")
}

/// The same before it is built, for those who want a hook on new connections.
pub fn pool_builder(config: &PostgresConfig, daemon: &str) -> anyhow::Result<PoolBuilder> {
    let manager = Manager::from_config(
        connection_config(config, daemon)?,
        NoTls,
        ManagerConfig { recycling_method: RecyclingMethod::Fast },
    );
    Ok(Pool::builder(manager)
        .max_size(config.database_connections_max)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(Duration::from_secs(10)))
        .create_timeout(Some(Duration::from_secs(5))))
}

/// The settings of one connection, for those who keep theirs outside the pool.
pub fn connection_config(
    config: &PostgresConfig,
    daemon: &str,
) -> anyhow::Result<tokio_postgres::Config> {
    let mut connection = tokio_postgres::Config::from_str(config.database_url.reveal())
        .context("DATABASE_URL must look like postgres://user:password@host:5432/database")?;
    connection
        .application_name(application_name(daemon))
        .connect_timeout(Duration::from_secs(5))
        .keepalives_idle(Duration::from_secs(10));
    Ok(connection)
}

/// A transaction that only reads, and sees one state of the database from its first query on.
pub async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    let transaction = client.build_transaction();
    transaction.isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}
