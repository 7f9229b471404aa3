//! The live page in a real browser, with everything behind it that feeds it.

use std::process::Stdio;

use anyhow::{Context, ensure};
use tests::{Installation, script};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sees_what_happens() -> anyhow::Result<()> {
    let mut tallyman = Installation::new().await?;
    tallyman.set("RATE_LIMIT_IP_PER_MIN", "0");
    let (mut gateway, _http) = tallyman.start_gateway().await?;
    let mut processor = tallyman.start_processor()?;
    let mut alerter = tallyman.start_alerter()?;
    processor.ready().await?;
    alerter.ready().await?;

    let mut command = script::command("page.mjs")?;
    command.env("GATEWAY_URL", format!("http://{}", gateway.address));
    command.env("WRITE_KEY", &tallyman.write_key);
    for (variable, rights) in [("ADMIN_KEY", "admin"), ("READ_KEY", "read")] {
        let create = ["keys", "create", "--name", "browser", "--rights", rights];
        command.env(variable, tallyman.run("gateway", &create).await?);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut browser = command.spawn().context("start the browser's script")?;
    let mut said = BufReader::new(browser.stdout.take().context("its output")?).lines();
    let mut input = browser.stdin.take().context("its input")?;
    while let Some(line) = said.next_line().await? {
        ensure!(line == "restart", "the script says {line}");
        tallyman.restart(&mut gateway).await?;
        input.write_all(b"done\n").await?;
    }
    let ended = browser.wait().await?;
    ensure!(ended.success(), "page.mjs ended with {ended}");
    processor.stop().await?;
    alerter.stop().await?;
    gateway.stop().await
}
