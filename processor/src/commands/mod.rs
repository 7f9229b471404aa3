//! What an operator can do besides running the daemon: one file per command.

mod audit;
mod dead_letters;
mod ledger;
mod rebuild;

use std::process::ExitCode;

use anyhow::Context;
use common::commands::{Servers, check_config, completions};
use common::config::PostgresConfig;
use common::{migrate, postgres};

use crate::config::{Cli, Command, DeadLetters, Ledger, Rebuild};

/// Runs a command to its end.
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(_) => unreachable!("the daemon is started by main"),
        Command::Migrate { postgres } => apply_migrations(&postgres).await,
        Command::Audit { config, wait_seconds } => audit::run(*config, wait_seconds).await,
        Command::Rebuild(Rebuild::Counters { config }) => rebuild::counters(*config).await,
        Command::Rebuild(Rebuild::Statistics { postgres }) => rebuild::statistics(&postgres).await,
        Command::DeadLetters(DeadLetters::List { postgres, code, limit }) => {
            dead_letters::list(&postgres, code.as_deref(), limit).await
        }
        Command::DeadLetters(DeadLetters::Show { postgres, id }) => {
            dead_letters::show(&postgres, id).await
        }
        Command::Ledger(Ledger::Show { postgres }) => ledger::show(&postgres).await,
        Command::CheckConfig(config) => {
            let servers = Servers {
                kafka: &config.kafka,
                postgres: &config.postgres,
                redis: Some(&config.redis),
            };
            check_config::<Cli>(servers).await
        }
        Command::Completions { shell } => Ok(completions::<Cli>(shell)),
    }
}

async fn apply_migrations(config: &PostgresConfig) -> anyhow::Result<ExitCode> {
    let mut client = postgres::pool(config, "migrate")?
        .get()
        .await
        .context("connect to Postgres (DATABASE_URL)")?;
    let applied = migrate::migrate(&mut client).await?;
    for name in &applied {
        println!("applied {name}");
    }
    if applied.is_empty() {
        println!("the schema is current");
    }
    Ok(ExitCode::SUCCESS)
}
