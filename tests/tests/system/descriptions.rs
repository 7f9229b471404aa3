//! The descriptions of the API, the topics and the sockets, read by the tools of their formats and held against
//! a real gateway.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tests::{Installation, program, script};

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_answers_whatever_is_sent_as_it_is_described() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let directory = folder.path().to_str().context("a path that is text")?;
    let mut tallyman = Installation::new().await?;
    tallyman.set("RATE_LIMIT_IP_PER_MIN", "0");
    tallyman.set("IMPORT_DIR", directory);
    let admin = tallyman
        .run("gateway", &["keys", "create", "--name", "tests", "--rights", "admin"])
        .await?;
    let (mut gateway, _http) = tallyman.start_gateway().await?;
    let url = format!("http://{}", gateway.address);
    run("openapi.py", &[("GATEWAY_URL", &url), ("ADMIN_KEY", &admin), ("TMPDIR", directory)])
        .await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_topics_and_sockets_is_valid() -> anyhow::Result<()> {
    let description = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/asyncapi.yaml");
    run("asyncapi.mjs", &[("ASYNCAPI", description)]).await
}

async fn run(name: &str, settings: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = script::command(name)?;
    command.envs(settings.iter().copied()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ran = program::output(command, Duration::from_secs(300)).await.context(name.to_owned())?;
    let told = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{name} ended with {}: {told}", ran.status);
    Ok(())
}
