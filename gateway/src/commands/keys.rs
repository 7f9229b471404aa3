//! `gateway keys`: creates, lists, rotates and revokes API keys.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use common::config::PostgresConfig;
use common::postgres;
use jiff::Timestamp;
use uuid::Uuid;

use crate::auth::{KeyRecord, KeyStore, KeyTerms, Right, parse_duration};

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
        /// How long it is good for, such as 90d or 12h; without it until it is revoked.
        #[arg(long, value_name = "SPAN", value_parser = parse_duration)]
        expires_in: Option<Duration>,
        /// What it may send a minute, in requests or, where RATE_LIMIT_UNIT says so, in events;
        /// without it there is no limit.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
        limit_per_min: Option<u32>,
    },
    /// Prints a new secret for a key; the old one is good for a while longer.
    Rotate {
        /// Its id, or its prefix (or a beginning of it that no other key shares).
        #[arg(value_name = "ID_OR_PREFIX")]
        key: String,
        /// How long the old secret is still taken: the time to bring the new one to all clients.
        #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = parse_duration)]
        overlap: Duration,
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
        KeysCommand::Create { name, rights, expires_in, limit_per_min } => {
            let expires_at = expires_in.map(|span| Timestamp::now() + span);
            let (name, limit_per_min) = (name.as_str(), *limit_per_min);
            create(&store, KeyTerms { name, rights: *rights, expires_at, limit_per_min }).await?;
        }
        KeysCommand::Rotate { key, overlap } => rotate(&store, key, *overlap).await?,
        KeysCommand::List { output } => list(&store, *output).await?,
        KeysCommand::Revoke { key } => revoke(&store, key).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn create(store: &KeyStore, terms: KeyTerms<'_>) -> anyhow::Result<()> {
    let key = store.create_with(terms).await?;
    let KeyTerms { name, rights, .. } = terms;
    eprintln!("Key {} ({name:?}, {rights}) is in force. Its secret, shown this once:", key.id);
    println!("{}", key.secret);
    Ok(())
}

async fn rotate(store: &KeyStore, wanted: &str, overlap: Duration) -> anyhow::Result<()> {
    let keys = store.list().await?;
    let old = choose(&keys, wanted)?;
    if let Some(successor) = old.replaced_by {
        bail!(
            "key {} ({:?}) was rotated already; rotate its successor {successor}",
            old.id,
            old.name
        );
    }
    let Some(new) = store.rotate(old.id, old.rights, overlap).await? else {
        bail!(
            "key {} ({:?}) is not in force; `gateway keys create` makes a new one",
            old.id,
            old.name
        )
    };
    let until = (Timestamp::now() + overlap).min(old.expires_at.unwrap_or(Timestamp::MAX));
    eprintln!(
        "Key {} ({:?}, {}) takes the place of {}, which is good until {}. Its secret, shown this once:",
        new.id,
        new.name,
        new.rights,
        old.id,
        seconds(until)
    );
    println!("{}", new.secret);
    Ok(())
}

async fn list(store: &KeyStore, output: Output) -> anyhow::Result<()> {
    let keys = store.list().await?;
    match output {
        Output::Json => {
            for key in &keys {
                println!("{}", serde_json::to_string(key)?);
            }
        }
        Output::Text if keys.is_empty() => {
            eprintln!(
                "There is no key yet; `gateway keys create --name me --rights write` makes one."
            );
        }
        Output::Text => {
            let widest = keys.iter().map(|key| key.name.chars().count()).max().unwrap_or(0).max(4);
            let heads =
                ["ID", "PREFIX", "RIGHTS", "NAME", "PER MIN", "CREATED", "LAST USED", "STATE"];
            print_row(widest, heads);
            for key in &keys {
                print_row(widest, columns(key).each_ref().map(String::as_str));
            }
        }
    }
    Ok(())
}

fn print_row(widest: usize, [id, prefix, rights, name, limit, created, used, state]: [&str; 8]) {
    println!(
        "{id:36}  {prefix:13}  {rights:6}  {name:widest$}  {limit:>10}  {created:20}  {used:20}  {state}"
    );
}

fn columns(key: &KeyRecord) -> [String; 8] {
    [
        key.id.to_string(),
        key.prefix.clone(),
        key.rights.name().to_owned(),
        key.name.clone(),
        key.limit_per_min.map_or_else(|| "-".to_owned(), |it| it.to_string()),
        seconds(key.created_at),
        key.last_used_at.map_or_else(|| "never".to_owned(), seconds),
        state(key),
    ]
}

fn state(key: &KeyRecord) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {}", seconds(at)),
        (None, Some(at)) if at <= Timestamp::now() => format!("expired {}", seconds(at)),
        (None, Some(at)) if key.replaced_by.is_some() => format!("rotated, until {}", seconds(at)),
        (None, Some(at)) => format!("in force until {}", seconds(at)),
        (None, None) => "in force".to_owned(),
    }
}

fn seconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
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
