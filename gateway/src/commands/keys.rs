//! `gateway keys`: creates, lists and revokes API keys.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use common::config::PostgresConfig;
use common::postgres;
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use crate::auth::{KeyRecord, KeyStore, Right};

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Makes a key and prints its secret: alone on standard output, this one time.
    Create {
        /// For whom or what it is; shown in lists.
        #[arg(long)]
        name: String,
        /// What it may do: read statistics, write events, or both and administer.
        #[arg(long)]
        rights: Right,
    },
    /// Lists all keys: prefix, rights, last use, never the secret.
    List {
        /// A table for people, or one JSON object per line.
        #[arg(long, short, default_value = "text")]
        output: Output,
    },
    /// Revokes a key; every gateway refuses it within 5 seconds.
    Revoke {
        /// Its id, or its prefix (or a beginning of it that no other key shares).
        #[arg(value_name = "ID_OR_PREFIX")]
        key: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

pub async fn run(command: &KeysCommand, config: &PostgresConfig) -> anyhow::Result<ExitCode> {
    let store = KeyStore::new(postgres::pool(config, "gateway-keys")?);
    store.require_current_schema().await?;
    match command {
        KeysCommand::Create { name, rights } => create(&store, name, *rights).await?,
        KeysCommand::List { output } => list(&store, *output).await?,
        KeysCommand::Revoke { key } => revoke(&store, key).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(store: &KeyStore, name: &str, rights: Right) -> anyhow::Result<()> {
    let key = store.create(name, rights).await?;
    eprintln!("Key {} ({name:?}, {rights}) is in force. Its secret, shown this once:", key.id);
    println!("{}", key.secret);
    Ok(())
}

async fn list(store: &KeyStore, output: Output) -> anyhow::Result<()> {
    let keys = store.list().await?;
    match output {
        Output::Json => keys.iter().for_each(|key| println!("{}", as_json(key))),
        Output::Text if keys.is_empty() => {
            eprintln!(
                "There is no key yet; `gateway keys create --name me --rights write` makes one."
            );
        }
        Output::Text => {
            let widest = keys.iter().map(|key| key.name.chars().count()).max().unwrap_or(0).max(4);
            print_row(widest, ["ID", "PREFIX", "RIGHTS", "NAME", "CREATED", "LAST USED", "STATE"]);
            for key in &keys {
                print_row(widest, columns(key).each_ref().map(String::as_str));
            }
        }
    }
    Ok(())
}

fn print_row(widest: usize, [id, prefix, rights, name, created, used, state]: [&str; 7]) {
    println!("{id:36}  {prefix:13}  {rights:6}  {name:widest$}  {created:20}  {used:20}  {state}");
}

fn columns(key: &KeyRecord) -> [String; 7] {
    [
        key.id.to_string(),
        key.prefix.clone(),
        key.rights.name().to_owned(),
        key.name.clone(),
        seconds(key.created_at),
        key.last_used_at.map_or_else(|| "never".to_owned(), seconds),
        key.revoked_at
            .map_or_else(|| "in force".to_owned(), |at| format!("revoked {}", seconds(at))),
    ]
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn as_json(key: &KeyRecord) -> serde_json::Value {
    json!({
        "id": key.id,
        "prefix": key.prefix,
        "rights": key.rights.name(),
        "name": key.name,
        "createdAt": seconds(key.created_at),
        "lastUsedAt": key.last_used_at.map(seconds),
        "revokedAt": key.revoked_at.map(seconds),
    })
}

async fn revoke(store: &KeyStore, wanted: &str) -> anyhow::Result<()> {
    let keys = store.list().await?;
    let key = choose(&keys, wanted)?;
    if let Some(at) = key.revoked_at {
        eprintln!("Key {} ({:?}) was revoked already, {}.", key.id, key.name, seconds(at));
        return Ok(());
    }
    store.revoke(key.id).await?;
    eprintln!("Key {} ({:?}) is revoked; every gateway refuses it within 5 s.", key.id, key.name);
    Ok(())
}

/// The key of that id, or the only one whose prefix begins so.
fn choose<'a>(keys: &'a [KeyRecord], wanted: &str) -> anyhow::Result<&'a KeyRecord> {
    if let Ok(id) = wanted.parse::<Uuid>() {
        return keys
            .iter()
            .find(|key| key.id == id)
            .ok_or_else(|| anyhow::anyhow!("no key has the id {id}; see `gateway keys list`"));
    }
    let found: Vec<_> =
        keys.iter().filter(|key| !wanted.is_empty() && key.prefix.starts_with(wanted)).collect();
    match found.as_slice() {
        [] => bail!("no key's prefix begins with {wanted:?}; see `gateway keys list`"),
        [key] => Ok(key),
        several => {
            let names: Vec<_> =
                several.iter().map(|key| format!("{} ({})", key.prefix, key.name)).collect();
            bail!("{wanted:?} could be any of {}; give more of it, or the id", names.join(", "))
        }
    }
}
