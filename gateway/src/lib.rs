//! HTTP in, Kafka out: the daemon that answers once the log has an event.

pub mod app;
pub mod archive;
pub mod auth;
pub mod budget;
pub mod commands;
pub mod config;
pub mod csv;
pub mod docs;
pub mod http;
pub mod idempotency;
pub mod import;
pub mod metrics;
pub mod page;
pub mod pipeline;
pub mod publisher;
mod push;
pub mod quota;
pub mod redis;
pub mod stats;

use std::process::ExitCode;

use common::{commands as everyone, config as settings, daemon};

pub use crate::app::App;
use crate::commands::{import as import_file, keys, stats as ask, tap};
use crate::config::{Cli, Command};

/// The whole program: reads the command line and runs what it says.
pub fn main() -> ExitCode {
    let cli: Cli = match settings::load() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match &cli.command {
        Command::Run(gateway) => daemon::run("gateway", &cli.daemon, &cli.kafka, |context| async {
            let app = App::connect(&cli, gateway, &context).await?;
            app.run(context.shutdown).await
        }),
        Command::Keys(keys) => daemon::run_command(keys::run(keys, &cli.postgres)),
        Command::Import(file) => daemon::run_command(import_file::run(file, &cli.kafka)),
        Command::Tap(tap) => daemon::run_command(tap::run(tap)),
        Command::Stats(stats) => daemon::run_command(ask::run(stats)),
        Command::CheckConfig(_) => {
            daemon::run_command(everyone::check_config::<Cli>(cli.servers()))
        }
        Command::Completions { shell } => everyone::completions::<Cli>(*shell),
    }
}
