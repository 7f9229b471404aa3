//! `gateway tap`: what happens now, one JSON object a line, to be piped into `jq` and the like.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Deserialize;

use super::client::GatewayClient;
use super::filter::Filter;

/// After a gateway has gone away; another may be there at once.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// The gateway sends a comment every 30 s.
const SILENCE_MAX: Duration = Duration::from_secs(75);

/// How soon it is noticed that nobody reads the output any more, when there is none.
const PIPE_CHECK: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub struct TapCommand {
    #[command(flatten)]
    gateway: GatewayClient,
    #[command(flatten)]
    filter: Filter,
    /// Notifications instead of actions.
    #[arg(long, conflicts_with_all = ["rejected", "event_type", "source"])]
    notifications: bool,
    /// Records that cannot be an event, with their reason.
    #[arg(long, conflicts_with_all = ["event_type", "user", "object_type", "object_id", "source"])]
    rejected: bool,
    /// Begins behind the message that had this `cursor`, not now.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
}

/// Writes until it is stopped, or until nobody reads any more.
pub async fn run(command: &TapCommand) -> anyhow::Result<ExitCode> {
    tokio::select! {
        ended = tap(command) => ended,
        () = reader_gone() => Ok(ExitCode::SUCCESS),
    }
}

async fn tap(command: &TapCommand) -> anyhow::Result<ExitCode> {
    common::tls::choose();
    let client = Client::builder().read_timeout(SILENCE_MAX).build()?;
    let request = command.request(&client)?;
    let mut cursor = command.cursor.clone();
    let mut response = Some(connect(&request, cursor.as_deref()).await?);
    loop {
        if let Some(response) = response.take()
            && copy(response, &mut cursor).await?.is_nobody()
        {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
        match connect(&request, cursor.as_deref()).await {
            Ok(connected) => response = Some(connected),
            Err(error) if error.is::<Refused>() => return Err(error),
            Err(error) => eprintln!("trying again: {error:#}"),
        }
    }
}

impl TapCommand {
    fn request(&self, client: &Client) -> anyhow::Result<RequestBuilder> {
        let path =
            if self.notifications { "/api/notifications/stream" } else { "/api/events/live" };
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in self.filter.pairs() {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if self.rejected {
            query.append_pair("verdict", "rejected");
        }
        self.gateway.get(client, &format!("{path}?{}", query.finish()))
    }
}

/// The gateway understood, and does not want to: trying again would not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

async fn connect(request: &RequestBuilder, cursor: Option<&str>) -> anyhow::Result<Response> {
    #[derive(Deserialize)]
    struct Problem {
        detail: String,
    }
    let mut request = request.try_clone().context("a request without a body can be repeated")?;
    if let Some(cursor) = cursor {
        request = request.header("last-event-id", cursor);
    }
    let response = request.send().await.context("connect to the gateway")?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let problem = serde_json::from_str::<Problem>(&body);
    let detail = problem.map_or_else(|_| format!("the answer was {status}"), |it| it.detail);
    if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        return Err(Refused(detail).into());
    }
    bail!(detail)
}

/// Why the copying ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    NobodyReads,
    GatewayGone,
}

impl Ended {
    fn is_nobody(self) -> bool {
        self == Self::NobodyReads
    }
}

/// Copies the data of each event to standard output; what is said about the stream itself goes to
/// standard error.
async fn copy(mut response: Response, cursor: &mut Option<String>) -> anyhow::Result<Ended> {
    let mut received = Vec::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) | Err(_) => return Ok(Ended::GatewayGone),
        };
        received.extend_from_slice(&chunk);
        // Only whole events: an id counts when its data was written.
        let Some(end) = memchr::memmem::rfind(&received, b"\n\n") else { continue };
        let mut out = std::io::stdout().lock();
        for line in received[..end].split(|byte| *byte == b'\n') {
            if let Some(id) = line.strip_prefix(b"id: ") {
                *cursor = Some(String::from_utf8_lossy(id).into_owned());
            } else if let Some(control) = line.strip_prefix(b"data: {\"control\":") {
                eprintln!("{{\"control\":{}", String::from_utf8_lossy(control));
            } else if let Some(data) = line.strip_prefix(b"data: ")
                && (out.write_all(data).is_err() || out.write_all(b"\n").is_err())
            {
                return Ok(Ended::NobodyReads);
            }
        }
        if out.flush().is_err() {
            return Ok(Ended::NobodyReads);
        }
        drop(out);
        received.drain(..end + 2);
    }
}

/// Resolves when standard output is a pipe whose reader has gone: `tap | head -1` is to end although
/// nothing more comes.
async fn reader_gone() {
    let out = std::io::stdout();
    loop {
        let mut polled = [PollFd::new(&out, PollFlags::empty())];
        let is_told = rustix::event::poll(&mut polled, Some(&Timespec::default()));
        if is_told.is_ok() && polled[0].revents().contains(PollFlags::ERR) {
            return;
        }
        tokio::time::sleep(PIPE_CHECK).await;
    }
}
