//! The gateway's process: reads its configuration and runs what was asked for.

use std::process::ExitCode;

use common::{commands, config, daemon};
use gateway::App;
use gateway::commands::keys;
use gateway::config::{Cli, Command};

fn main() -> ExitCode {
    let cli = match config::load::<Cli>() {
        Ok(cli) => cli,
        Err(exit) => return exit,
    };
    match &cli.command {
        Command::Run(gateway) => daemon::run("gateway", &cli.daemon, |context| async {
            let app = App::connect(&cli, gateway, &context).await?;
            app.run(context.shutdown).await
        }),
        Command::Keys(keys) => daemon::run_command(keys::run(keys, &cli.postgres)),
        Command::CheckConfig(_) => daemon::run_command(commands::check_config::<Cli>(cli.servers())),
        Command::Completions { shell } => commands::completions::<Cli>(*shell),
    }
}
