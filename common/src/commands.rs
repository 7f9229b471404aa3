//! The commands every program has: `check-config` and `completions`.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use clap_complete::Shell;
use fred::prelude::ClientLike;

use crate::config::{EXIT_BAD_CONFIG, KafkaConfig, PostgresConfig, RedisConfig, effective};
use crate::{kafka, postgres, redis};

/// The servers a program needs.
#[derive(Debug, Clone, Copy)]
pub struct Servers<'a> {
    pub kafka: &'a KafkaConfig,
    pub postgres: &'a PostgresConfig,
    pub redis: Option<&'a RedisConfig>,
}

/// Prints every setting with its effective value, secrets masked, then whether each server can be
/// reached. Exit code 78 when something is wrong.
pub async fn check_config<C: CommandFactory + FromArgMatches>(
    servers: Servers<'_>,
) -> anyhow::Result<ExitCode> {
    for (name, value) in effective::<C>()? {
        println!("{name} = {value}");
    }
    let mut answers = vec![
        ("kafka", reach_kafka(servers.kafka).await),
        ("postgres", reach_postgres(servers.postgres).await),
    ];
    if let Some(config) = servers.redis {
        answers.push(("redis", reach_redis(config).await));
    }
    println!();
    for (server, answer) in &answers {
        match answer {
            Ok(()) => println!("{server}: reachable"),
            Err(error) => println!("{server}: NOT reachable: {error:#}"),
        }
    }
    let all_well = answers.iter().all(|(_, answer)| answer.is_ok());
    Ok(ExitCode::from(if all_well { 0 } else { EXIT_BAD_CONFIG }))
}

/// Prints a shell's completion script.
pub fn completions<C: CommandFactory>(shell: Shell) -> ExitCode {
    let mut command = C::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
    ExitCode::SUCCESS
}

async fn reach_kafka(config: &KafkaConfig) -> anyhow::Result<()> {
    let offsets = kafka::GroupOffsets::of(config, "tallyman-check-config")?;
    offsets.partition_count(&crate::topic::USER_ACTIONS.name).await?;
    Ok(())
}

async fn reach_postgres(config: &PostgresConfig) -> anyhow::Result<()> {
    postgres::pool(config, "check-config")?.get().await?.simple_query("select 1").await?;
    Ok(())
}

async fn reach_redis(config: &RedisConfig) -> anyhow::Result<()> {
    let client = redis::client(config)?;
    let connection = client.init().await?;
    client.ping::<()>(None).await?;
    client.quit().await?;
    connection.abort();
    Ok(())
}
