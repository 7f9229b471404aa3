//! A Redis server of one test, which may do with it what it wants; it ends with its owner.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

pub struct Redis {
    port: u16,
    directory: TempDir,
}

impl Redis {
    pub async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = tempfile::Builder::new().prefix("redis").tempdir().unwrap();
        let redis = Self { port, directory };
        redis.start_again().await;
        redis
    }

    pub async fn start_again(&self) {
        self.script("start", &[&self.port.to_string()]).await;
    }

    pub async fn kill(&self) {
        self.script("kill", &[]).await;
    }

    /// SIGSTOP and SIGCONT: connections stay open, nobody answers.
    pub async fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.directory.path().join("pid")).unwrap();
        let ran = Command::new("kill").args([signal, pid.trim()]).status().await.unwrap();
        assert!(ran.success());
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    async fn script(&self, verb: &str, arguments: &[&str]) {
        let mut command = Command::new(script());
        command.arg(verb).arg(self.directory.path()).args(arguments);
        let ran = command.output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let killed =
            std::process::Command::new(script()).arg("kill").arg(self.directory.path()).status();
        assert!(killed.is_ok_and(|it| it.success()) || std::thread::panicking());
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/native/redis.sh")
}
