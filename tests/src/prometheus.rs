//! A Prometheus of one test: scrapes, by the deployed configuration, what runs in the test.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::program::free_port;
use crate::{eventually, grafana, servers};

pub struct Prometheus {
    url: String,
    /// They end with their owner.
    _process: Child,
    _directory: TempDir,
}

/// The labels of a series, and its value.
pub type Sample = (BTreeMap<String, String>, f64);

impl Prometheus {
    /// `targets`: an address of the deployed configuration, and which one has its place here.
    pub async fn start(targets: &[(&str, &str)]) -> anyhow::Result<Self> {
        let directory = servers::directory("prometheus")?;
        let mut config = std::fs::read_to_string(grafana::directory().join("prometheus.yml"))?;
        for (deployed, here) in targets {
            ensure!(config.contains(deployed), "nobody scrapes {deployed}");
            config = config.replace(deployed, here);
        }
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config.replace("scrape_interval: 5s", "scrape_interval: 500ms"))?;
        let address = format!("127.0.0.1:{}", free_port());
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log"))?)
            .kill_on_drop(true)
            .spawn()
            .context("start prometheus")?;
        let url = format!("http://{address}");
        eventually("Prometheus is ready", Duration::from_secs(60), async || {
            let answer = reqwest::get(format!("{url}/-/ready")).await?;
            ensure!(answer.status() == 200, "{}", answer.status());
            Ok(())
        })
        .await?;
        Ok(Self { url, _process: process, _directory: directory })
    }

    /// What an expression is at this moment.
    pub async fn ask(&self, expression: &str) -> anyhow::Result<Vec<Sample>> {
        let url = format!("{}/api/v1/query", self.url);
        let url = Url::parse_with_params(&url, [("query", expression)])?;
        let answer: Value = reqwest::get(url).await?.json().await?;
        ensure!(answer["status"] == "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().context("no result")?;
        result.iter().map(sample).collect()
    }
}

fn sample(series: &Value) -> anyhow::Result<Sample> {
    let labels = serde_json::from_value(series["metric"].clone())?;
    let value = series["value"][1].as_str().context("no value")?;
    Ok((labels, value.parse()?))
}
