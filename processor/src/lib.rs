//! Kafka in; Postgres, Redis and `unique-actions` out, each action once.

pub mod app;
pub mod batch;
pub mod commands;
pub mod config;
mod copy;
pub mod dedup;
pub mod follow;
pub mod generation;
pub mod judge;
mod lag;
pub mod metrics;
pub mod partition;
pub mod pipeline;
mod reminder;
mod words;

use std::process::ExitCode;

use common::{config as settings, daemon};

use crate::app::App;
use crate::config::{Cli, Command};

/// The whole program: reads the command line and runs what it says.
pub fn main() -> ExitCode {
    let cli: Cli = match settings::load() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Run(config) => {
            let kafka = config.kafka.clone();
            daemon::run("processor", &cli.daemon, &kafka, |context| async move {
                let app = App::connect(*config, &context).await?;
                app.run(context.shutdown).await
            })
        }
        other => {
            daemon::init_logging(&cli.daemon);
            daemon::run_command(commands::run(other))
        }
    }
}
