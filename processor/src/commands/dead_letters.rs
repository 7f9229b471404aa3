//! `processor dead-letters list|show`: records that could not be events, and why.

use std::process::ExitCode;

use anyhow::Context;
use common::config::PostgresConfig;
use common::postgres;
use jiff::Timestamp;
use tokio_postgres::types::Json;

/// The newest first, one line each.
pub async fn list(
    config: &PostgresConfig,
    code: Option<&str>,
    limit: i64,
) -> anyhow::Result<ExitCode> {
    let client = postgres::pool(config, "dead-letters")?.get().await?;
    let rows = client.query(include_str!("list_dead_letters.sql"), &[&code, &limit]).await?;
    println!("{:>8}  {:<24}  {:<28}  {:<24}  DETAIL", "ID", "RECEIVED", "CODE", "ORIGIN");
    for row in rows {
        println!(
            "{:>8}  {:<24}  {:<28}  {:<24}  {}",
            row.get::<_, i64>("id"),
            row.get::<_, Timestamp>("received_at").to_string(),
            row.get::<_, String>("error_code"),
            row.get::<_, String>("origin"),
            row.get::<_, String>("error_detail"),
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// One with everything that is kept of it; its bytes as text where they are text.
pub async fn show(config: &PostgresConfig, id: i64) -> anyhow::Result<ExitCode> {
    let client = postgres::pool(config, "dead-letters")?.get().await?;
    let row = client
        .query_opt(include_str!("show_dead_letter.sql"), &[&id])
        .await?
        .with_context(|| format!("no dead letter has the id {id}"))?;
    let Json(headers): Json<serde_json::Value> = row.get("record_headers");
    let text = |name: &str| {
        row.get::<_, Option<Vec<u8>>>(name)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    println!("origin    {}", row.get::<_, String>("origin"));
    println!("received  {}", row.get::<_, Timestamp>("received_at"));
    println!("code      {}", row.get::<_, String>("error_code"));
    println!("detail    {}", row.get::<_, String>("error_detail"));
    println!("pointer   {}", row.get::<_, String>("error_pointer"));
    println!("headers   {headers}");
    println!("key       {}", text("record_key").unwrap_or_else(|| "(null)".to_owned()));
    println!("value     {}", text("record_value").unwrap_or_else(|| "(null)".to_owned()));
    Ok(ExitCode::SUCCESS)
}
