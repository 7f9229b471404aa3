//! The dashboards: Grafana can take them, and every query of every panel has the right answer on real servers.

mod expected;
mod shape;
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use expected::{Expected, of_every_panel, while_the_judge_waits};
use futures_util::future::join_all;
use serde_json::Value;
use tests::grafana::{Dashboard, View, legend, redis_command};
use tests::program::{self, free_port};
use tests::{Installation, PrivateServer, Prometheus, Servers, eventually};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_gives_the_right_answer() -> anyhow::Result<()> {
    let exporter = free_port();
    let settings = vec![("KAFKA_JMX_EXPORTER_PORT", exporter.to_string())];
    let broker = PrivateServer::start_with("kafka", settings).await?;
    let brokers = broker.url().await?;
    let mut tallyman = Installation::on(Servers { brokers, ..Servers::shared()? }).await?;
    // Topics whose records come by the clock would have rates that the story does not tell.
    tallyman.set("AGGREGATE_SINKS", "none");
    tallyman.set("SERVICE_METRICS_SECONDS", "0");
    let (mut gateway, http) = tallyman.start_gateway().await?;
    let (mut processor, mut alerter) = (tallyman.start_processor()?, tallyman.start_alerter()?);
    processor.ready().await?;
    alerter.ready().await?;
    let programs = [&gateway.address, &processor.address, &alerter.address].map(String::clone);
    let prometheus = Prometheus::start(&[
        ("gateway:8080", &programs[0]),
        ("processor:9101", &programs[1]),
        ("alerter:9102", &programs[2]),
        ("kafka:9404", &format!("127.0.0.1:{exporter}")),
    ])
    .await?;
    let grafana = Grafana { tallyman, prometheus };

    story::history(&grafana.tallyman, &http).await?;
    grafana.has_scraped_the_history().await?;
    story::traffic(&grafana.tallyman, &http).await?;

    let judge_waits = grafana.tallyman.postgres().await?;
    judge_waits.run("begin; lock table consumer_ledger in exclusive mode").await?;
    story::more(&http).await?;
    grafana.shows(while_the_judge_waits()).await?;
    judge_waits.run("rollback").await?;
    grafana.tallyman.wait_drained().await?;

    let expected = of_every_panel(&grafana.tallyman, &programs);
    let panels: BTreeSet<String> = Dashboard::all()?
        .iter()
        .flat_map(|it| it.panels().iter().map(|panel| key(it, panel)))
        .collect();
    let known = expected.keys().cloned().collect();
    ensure!(panels == known, "panels {panels:?}, of which is known what they show: {known:?}");
    grafana.shows(expected).await?;
    for program in [&mut gateway, &mut processor, &mut alerter] {
        program.stop().await?;
    }
    Ok(())
}

fn key(dashboard: &Dashboard, panel: &Value) -> String {
    format!("{}: {}", dashboard.name, panel["title"].as_str().unwrap_or_default())
}

/// Asks the servers what Grafana would ask them.
struct Grafana {
    tallyman: Installation,
    prometheus: Prometheus,
}

impl Grafana {
    /// Each of these panels comes to show what is expected; all that do not are told at once.
    async fn shows(&self, expected: BTreeMap<String, Expected>) -> anyhow::Result<()> {
        let mut wrong = Vec::new();
        for dashboard in Dashboard::all()? {
            let view = &self.view(&dashboard).await?;
            let panels = dashboard.panels().iter().filter_map(|panel| {
                let key = key(&dashboard, panel);
                let expected = expected.get(&key)?;
                Some(async move {
                    eventually(&key, Duration::from_secs(60), async || {
                        expected.check(&self.answers(panel, view).await?)
                    })
                    .await
                })
            });
            let shown = join_all(panels).await;
            wrong.extend(shown.into_iter().filter_map(Result::err).map(|it| format!("{it:#}")));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(self.tallyman.with_logs(&anyhow!(wrong.join("\n"))))
    }

    /// Rates know nothing of what a series was before it was seen first.
    async fn has_scraped_the_history(&self) -> anyhow::Result<()> {
        let events = story::HISTORY;
        for all in [
            format!("sum(gateway_events_received_total) == {events}"),
            format!("sum(processor_events_consumed_total) == {events}"),
            format!(r#"count(kafka_topic_records_in_total{{topic!~"__.*"}}) == {}"#, story::TOPICS),
        ] {
            eventually(&all, Duration::from_secs(60), async || {
                ensure!(!self.prometheus.ask(&all).await?.is_empty(), "not yet");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    async fn view(&self, dashboard: &Dashboard) -> anyhow::Result<View> {
        let window =
            ["__rate_interval", "__range"].map(|it| (it.to_owned(), story::WINDOW.to_owned()));
        let mut view = View { from: story::FROM, to: story::TO, variables: window.into() };
        for variable in dashboard.variables() {
            let name = variable["name"].as_str().context("a variable without a name")?;
            let query = variable["query"].as_str().context("a variable without a query")?;
            let value = match variable["type"].as_str() {
                Some("textbox") => query.to_owned(),
                _ => self.tallyman.postgres().await?.rows(&view.sql(query)?).await?[0].get(0),
            };
            view.variables.insert(name.to_owned(), value);
        }
        Ok(view)
    }

    /// Of all targets together: rows, or a member for each line of Redis or series.
    async fn answers(&self, panel: &Value, view: &View) -> anyhow::Result<Vec<Value>> {
        let mut answers = Vec::new();
        for target in panel["targets"].as_array().context("no targets")? {
            answers.extend(match target["datasource"]["uid"].as_str() {
                Some("postgres") => self.rows(target, view).await?,
                Some("redis") => self.lines(target, view).await?,
                _ => self.series(target, view).await?,
            });
        }
        Ok(answers)
    }

    async fn rows(&self, target: &Value, view: &View) -> anyhow::Result<Vec<Value>> {
        let sql = view.sql(target["rawSql"].as_str().context("no SQL")?)?;
        let rows = format!("select to_jsonb(answer) from ({sql}) answer");
        let postgres = self.tallyman.postgres().await?;
        // As the role of Grafana has it: a panel that writes would fail.
        postgres.run("set default_transaction_read_only = on").await?;
        let rows = postgres.rows(&rows).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn lines(&self, target: &Value, view: &View) -> anyhow::Result<Vec<Value>> {
        let mut command = Command::new("redis-cli");
        command.args(["-u", &self.tallyman.servers.redis_url]).args(redis_command(target, view)?);
        let ran = program::output(command, Duration::from_secs(60)).await?;
        Ok(String::from_utf8(ran.stdout)?.lines().map(Value::from).collect())
    }

    async fn series(&self, target: &Value, view: &View) -> anyhow::Result<Vec<Value>> {
        let expression = view.text(target["expr"].as_str().context("no expression")?);
        let format = target["legendFormat"].as_str().context("no legend")?;
        let samples = self.prometheus.ask(&expression).await?;
        Ok(samples
            .into_iter()
            .map(|(labels, value)| {
                Value::from(vec![legend(format, &labels).into(), Value::from(value)])
            })
            .collect())
    }
}
