//! The measured programs: found beside this one, started, waited for and stopped.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::usage::Watched;

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(40);

pub type Settings = [(String, String)];

/// A daemon in a process of its own; killed with its owner.
pub struct Program {
    name: &'static str,
    child: Child,
    pub address: SocketAddr,
    log: PathBuf,
}

/// Cargo puts all programs of one profile into one directory.
fn command(name: &str, arguments: &[&str], settings: &Settings) -> anyhow::Result<Command> {
    let program = std::env::current_exe()?.with_file_name(name);
    ensure!(program.exists(), "{} is missing: build it with the same profile", program.display());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("TALLYMAN_CONFIG");
    command.envs(settings.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// Runs an operator's command, which must succeed; its standard output, trimmed.
pub async fn run(name: &str, arguments: &[&str], settings: &Settings) -> anyhow::Result<String> {
    let ran = command(name, arguments, settings)?.output().await?;
    let error = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "`{name} {}` failed: {error}", arguments.join(" "));
    Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
}

/// Starts an operator's command whose standard output is the caller's.
pub fn spawn(name: &str, arguments: &[&str], settings: &Settings) -> anyhow::Result<Child> {
    let mut command = command(name, arguments, settings)?;
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("start {name}"))
}

impl Program {
    /// Starts `<name> run`, its log in the directory.
    pub fn start(
        name: &'static str,
        settings: &Settings,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = directory.join(format!("{name}-{}.log", address.port()));
        let mut command = command(name, &["run"], settings)?;
        command.env("ADMIN_LISTEN", address.to_string());
        command.env("GATEWAY_LISTEN", address.to_string());
        command.stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, address, log })
    }

    /// Starts this very program as the bare handler, which says its address.
    pub async fn start_bare() -> anyhow::Result<Self> {
        let itself = std::env::current_exe()?;
        let mut command = Command::new(itself);
        command.arg("bare").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("start the bare handler")?;
        let out = child.stdout.take().context("its standard output")?;
        let said = BufReader::new(out).lines().next_line().await?;
        let address = said.context("the bare handler says no address")?.parse()?;
        Ok(Self { name: "bare handler", child, address, log: PathBuf::new() })
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz", self.address);
        let began = Instant::now();
        loop {
            self.ensure_running()?;
            if reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) {
                return Ok(());
            }
            ensure!(began.elapsed() < READY_WITHIN, "not ready: {}", self.log_tail());
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} ended by itself: {}", self.name, self.log_tail());
        Ok(())
    }

    pub fn watched(&self) -> anyhow::Result<Watched> {
        let pid = self.child.id().with_context(|| format!("{} is gone", self.name))?;
        Ok(Watched { name: self.name, pid })
    }

    /// SIGTERM; it must end by itself.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.watched()?.pid.to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await?;
        ensure!(sent.success(), "kill -TERM {pid} failed");
        let ended = timeout(STOPPED_WITHIN, self.child.wait()).await;
        ended.with_context(|| format!("{} does not stop: {}", self.name, self.log_tail()))??;
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}
