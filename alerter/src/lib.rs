//! Unique actions in, notifications and windows out, each exactly once.

pub mod action;
pub mod aggregates;
pub mod app;
pub mod config;
pub mod cooldown;
pub mod delivery;
pub mod detector;
pub mod group;
pub mod metrics;
pub mod notifier;
pub mod partition;
pub mod position;
pub mod readiness;
pub mod rules;
pub mod state;
pub mod state_log;
pub mod watch;
pub mod watching;
pub mod windows;

use std::process::ExitCode;

use common::{commands, config as settings, daemon};

use crate::app::App;
use crate::config::{Cli, Command, Config};

/// The whole program: reads the command line and runs what it says.
pub fn main() -> ExitCode {
    let cli: Cli = match settings::load() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Command::Run(config) => {
            let kafka = config.kafka.clone();
            daemon::run("alerter", &cli.daemon, &kafka, |context| async move {
                let app = App::connect(*config, &context).await?;
                app.run(context.shutdown).await
            })
        }
        Command::CheckConfig(config) => {
            daemon::init_logging(&cli.daemon);
            daemon::run_command(check_config(&config))
        }
        Command::Completions { shell } => commands::completions::<Cli>(shell),
    }
}

async fn check_config(config: &Config) -> anyhow::Result<ExitCode> {
    if let Err(error) = config.rules().and(config.aggregates.plan(&config.windows).map(drop)) {
        eprintln!("error: {error:#}");
        return Ok(ExitCode::from(settings::EXIT_BAD_CONFIG));
    }
    let servers =
        commands::Servers { kafka: &config.kafka, postgres: &config.postgres, redis: None };
    commands::check_config::<Cli>(servers).await
}
