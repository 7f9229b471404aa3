//! A running program: started, killed, stopped and waited for; its log is kept for the failure message.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::eventually;

const SIGKILL: i32 = 9;

/// The file that holds all three programs with their kill points; Cargo builds it beside the tests.
pub fn under_test() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("a test lies in target/<profile>/deps")?;
    Ok(profile.join("under-test"))
}

/// A command that is one of the programs.
pub fn command(
    name: &str,
    arguments: &[&str],
    settings: &[(String, String)],
) -> anyhow::Result<Command> {
    let mut command = Command::new(under_test()?);
    command.arg0(name).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("TALLYMAN_KILL_AT").env_remove("TALLYMAN_CONFIG");
    command.envs(settings.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// Runs a command of an operator to its end.
pub async fn output(mut command: Command, within: Duration) -> anyhow::Result<Output> {
    timeout(within, command.output())
        .await
        .with_context(|| format!("still running after {} s", within.as_secs()))?
        .context("start the command")
}

/// A daemon in a process of its own.
pub struct Program {
    pub name: String,
    child: Child,
    /// Where it answers HTTP; a daemon that has nothing else to say answers probes there.
    pub address: String,
    log: PathBuf,
}

impl Program {
    /// Starts `<name> run`, its log in the directory.
    pub fn start(
        name: &str,
        settings: &[(String, String)],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_at(name, settings, directory, &format!("127.0.0.1:{}", free_port()))
    }

    /// The same where another one was that its clients know.
    pub fn start_at(
        name: &str,
        settings: &[(String, String)],
        directory: &Path,
        address: &str,
    ) -> anyhow::Result<Self> {
        let address = address.to_owned();
        let log = directory.join(format!("{name}-{}.log", address.replace(':', "-")));
        let mut command = command(name, &["run"], settings)?;
        command.env("ADMIN_LISTEN", &address).env("GATEWAY_LISTEN", &address);
        command.stdout(Stdio::null()).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, address, log })
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let url = format!("http://{}/readyz?verbose", self.address);
        eventually(&format!("{} is ready", self.name), Duration::from_secs(60), async || {
            let answer = reqwest::get(&url).await?;
            ensure!(answer.status() == 200, "not ready: {}", answer.text().await?);
            Ok(())
        })
        .await
        .with_context(|| format!("its log ends: {}", tail(&self.log)))
    }

    /// The sum of a metric over its labels; 0 while it does not answer.
    pub async fn metric(&self, name: &str) -> f64 {
        let url = format!("http://{}/metrics", self.address);
        let Ok(answer) = reqwest::get(&url).await else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// It has not ended by itself.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        if let Some(ended) = self.child.try_wait()? {
            bail!("{} has ended with {ended}; its log ends: {}", self.name, tail(&self.log));
        }
        Ok(())
    }

    /// Sends a signal by its name, such as `STOP`.
    pub async fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let pid = self.child.id().with_context(|| format!("{} is gone", self.name))?;
        let sent =
            Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().await?;
        ensure!(sent.success(), "kill -{signal} {pid} failed");
        Ok(())
    }

    /// SIGKILL: no destructor, no flush.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("kill {}", self.name))
    }

    /// Waits for it to die at its kill point.
    pub async fn dies_at_its_kill_point(&mut self, within: Duration) -> anyhow::Result<()> {
        let ended = self.ended(within).await?;
        let killed = ended.signal() == Some(SIGKILL);
        ensure!(killed, "{} ended with {ended}; its log ends: {}", self.name, tail(&self.log));
        Ok(())
    }

    /// SIGTERM; it must end by itself, with exit code 0.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.signal("TERM").await?;
        let ended = self.ended(Duration::from_secs(40)).await?;
        ensure!(
            ended.success(),
            "{} stopped with {ended}; its log ends: {}",
            self.name,
            tail(&self.log)
        );
        Ok(())
    }

    async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        match timeout(within, self.child.wait()).await {
            Ok(ended) => Ok(ended?),
            Err(_elapsed) => bail!(
                "{} still runs after {} s; its log ends: {}",
                self.name,
                within.as_secs(),
                tail(&self.log)
            ),
        }
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(25)..];
    format!("\n--- {}\n{}\n", log.display(), last.join("\n"))
}

/// A port nobody listens on. Below the range from which the kernel takes ports for outgoing
/// connections, and that from which the servers' scripts take theirs, so that none of those takes it
/// before the program does.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = (std::process::id() % 100) as u16 * 100;
    loop {
        let port = 20_000 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 6_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
