//! `processor ledger show`: how far each source has been judged.

use std::process::ExitCode;

use common::config::PostgresConfig;
use common::postgres;

pub async fn show(config: &PostgresConfig) -> anyhow::Result<ExitCode> {
    let client = postgres::pool(config, "ledger")?.get().await?;
    let rows = client.query(include_str!("show_ledger.sql"), &[]).await?;
    println!(
        "{:<32} {:>6} {:>12} {:>12} {:>12} {:>12} {:>10} {:>8}",
        "source", "epoch", "next", "consumed", "stored", "duplicate", "dead", "skipped"
    );
    for row in rows {
        println!(
            "{:<32} {:>6} {:>12} {:>12} {:>12} {:>12} {:>10} {:>8}",
            row.get::<_, String>("name"),
            row.get::<_, i64>("owner_epoch"),
            row.get::<_, i64>("next_offset"),
            row.get::<_, i64>("consumed"),
            row.get::<_, i64>("stored"),
            row.get::<_, i64>("duplicate"),
            row.get::<_, i64>("dead_lettered"),
            row.get::<_, i64>("skipped"),
        );
    }
    Ok(ExitCode::SUCCESS)
}
