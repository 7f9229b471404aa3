//! The servers the tests run against: shared ones that stay up, and private ones that a test may stop.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::program::free_port;

/// Where the servers of an installation are.
#[derive(Debug, Clone)]
pub struct Servers {
    pub brokers: String,
    pub database_url: String,
    pub redis_url: String,
}

impl Servers {
    /// Those that `./dev test` has started and named in the environment.
    pub fn shared() -> anyhow::Result<Self> {
        let named = |variable| {
            std::env::var(variable).with_context(|| {
                format!("{variable} is not set: run `./dev test`, or `. .dev/env` after `./dev up`")
            })
        };
        Ok(Self {
            brokers: named("KAFKA_BROKERS")?,
            database_url: named("DATABASE_URL")?,
            redis_url: named("REDIS_URL")?,
        })
    }
}

/// A server of one test, which may do with it what it wants; it ends with its owner.
pub struct PrivateServer {
    script: PathBuf,
    port: u16,
    /// Environment variables of its script.
    settings: Vec<(&'static str, String)>,
    directory: TempDir,
}

impl PrivateServer {
    /// Starts a new `kafka`, `postgres` or `redis`.
    pub async fn start(kind: &str) -> anyhow::Result<Self> {
        Self::start_with(kind, Vec::new()).await
    }

    pub async fn start_with(
        kind: &str,
        settings: Vec<(&'static str, String)>,
    ) -> anyhow::Result<Self> {
        let native = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/native");
        let server = Self {
            script: native.join(format!("{kind}.sh")),
            port: free_port(),
            settings,
            // A short name: what the server puts below it may be a socket's path.
            directory: directory(kind)?,
        };
        server.start_again().await?;
        Ok(server)
    }

    /// Waits until it answers.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.script("start", &[&self.port.to_string()]).await.map(drop)
    }

    /// In good order.
    pub async fn stop(&self) -> anyhow::Result<()> {
        self.script("stop", &[]).await.map(drop)
    }

    /// As a power cut would.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.script("kill", &[]).await.map(drop)
    }

    /// Copies all it holds aside. In between it stops in good order.
    pub async fn back_up(&self) -> anyhow::Result<()> {
        self.stop().await?;
        self.copy("data", "backup").await?;
        self.start_again().await
    }

    /// Goes back to the copy: what came since is lost.
    pub async fn restore(&self) -> anyhow::Result<()> {
        self.stop().await?;
        tokio::fs::remove_dir_all(self.directory.path().join("data")).await?;
        self.copy("backup", "data").await?;
        self.start_again().await
    }

    async fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let mut copy = tokio::process::Command::new("cp");
        let copied =
            copy.args(["-a", from, to]).current_dir(self.directory.path()).status().await?;
        ensure!(copied.success(), "cp -a {from} {to}: {copied}");
        Ok(())
    }

    /// How a program reaches it.
    pub async fn url(&self) -> anyhow::Result<String> {
        self.script("url", &[]).await
    }

    async fn script(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let ran = tokio::process::Command::new(&self.script)
            .arg(verb)
            .arg(self.directory.path())
            .args(arguments)
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .output()
            .await?;
        let script = self.script.display();
        ensure!(ran.status.success(), "{script} {verb}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(String::from_utf8(ran.stdout)?.trim().to_owned())
    }
}

/// `TALLYMAN_KEEP` is set by whoever wants to look into it.
pub fn keeps_what_tests_leave() -> bool {
    std::env::var_os("TALLYMAN_KEEP").is_some()
}

/// A directory of one test: gone with its owner, unless somebody wants to look into it.
pub fn directory(prefix: &str) -> std::io::Result<TempDir> {
    let keep = keeps_what_tests_leave();
    tempfile::Builder::new().prefix(prefix).disable_cleanup(keep).tempdir()
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let stopped = Command::new(&self.script).arg("kill").arg(self.directory.path()).status();
        if !stopped.is_ok_and(|it| it.success()) {
            eprintln!("{} did not stop; its port is {}", self.script.display(), self.port);
        }
    }
}
