//! Uploads of whole files, imported as jobs that can be asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::time::Instant;
use uuid::Uuid;

use super::content::{self, Declared, Encoding};
use super::error::ApiError;
use super::{Gateway, body};
use crate::auth::{Caller, Right};
use crate::csv::Override;
use crate::import::jobs::{Job, Jobs, NewJob, Order, reading};
use crate::import::{FormatName, Plan, PlanError, Settings, Source};

/// So much must come in so long: a client that sends nothing has gone, and one that only trickles
/// would keep its place from others.
const PIECE_BYTES: u64 = 64 << 10;
const PIECE_TIME_MAX: Duration = Duration::from_secs(60);

const WRITE_BYTES: usize = 1 << 20;

/// How often the disk is asked for its room while an upload of unknown length comes.
const ROOM_CHECKED_EVERY: u64 = 64 << 20;

#[utoipa::path(post, path = "/api/imports", tag = "Imports", summary = "Upload a file of events",
    params(
        ("format" = Option<String>, Query, description = "`csv` or `ndjson`; else told by the type or guessed."),
        ("delimiter" = Option<String>, Query, description = "Of a CSV file: one character, or `tab`."),
        ("map" = Option<Vec<String>>, Query, description = "`COLUMN:MEMBER`; may be repeated."),
        ("dryRun" = Option<bool>, Query, description = "Judges the rows and stores nothing."),
        ("name" = Option<String>, Query, description = "For people."),
    ),
    request_body(description = "The file; gzip and zstd too, by `Content-Encoding`.", content(
        (String = "text/csv", example = "type,userId,postId\nlike,u1,123\n"),
        (String = "application/x-ndjson", example = "{\"type\":\"like\",\"userId\":\"u1\"}\n"),
    )),
    responses(
        (status = 202, description = "A job, to be asked for under `Location`.", body = Job),
        (status = 400, description = "The file cannot be read, or a parameter has no usable value."),
        (status = 408, description = "The file stopped coming."),
        (status = 413, description = "The file is too large."),
        (status = 415, description = "The type or encoding cannot be read here."),
        (status = 507, description = "There is no room for the file."),
    ))]
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, mut body) = request.into_parts();
    let created = gateway.create_import(&head, &mut body).await;
    if created.is_err() {
        body::discard(&head.headers, body).await;
    }
    let job = created?;
    let location = format!("/api/imports/{}", job.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(job)).into_response())
}

#[utoipa::path(get, path = "/api/imports/{id}", tag = "Imports", summary = "Ask how an import stands",
    params(("id" = Uuid, Path, description = "From the answer to the upload.")),
    responses(
        (status = 200, description = "The job.", body = Job),
        (status = 404, description = "No import of yours has this id."),
    ))]
pub async fn show(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Job>, ApiError> {
    let (head, _body) = request.into_parts();
    let caller = gateway.admit_for(Right::Write, &head).await?;
    let id: Uuid = id.parse().map_err(|_| ApiError::NoSuchImport)?;
    let job = gateway.jobs.store.find(id).await.map_err(|error| imports_away(&error))?;
    // A job shows rows of its file: to its sender, and to admins.
    let may_see = |job: &Job| {
        caller.rights.includes(Right::Admin) || job.owner == caller.identity.to_string()
    };
    job.filter(may_see).map(Json).ok_or(ApiError::NoSuchImport)
}

impl Gateway {
    async fn create_import(&self, head: &Parts, body: &mut Body) -> Result<Job, ApiError> {
        let caller = self.admit_for(Right::Write, head).await?;
        let (order, name) = order(head, &caller)?;
        let encoding = content::encoding(&head.headers)?;
        if encoding == Some(Encoding::Deflate) {
            return Err(ApiError::UnsupportedEncoding { found: "deflate".into() });
        }
        let jobs = &self.jobs;
        let _place = jobs.uploads.try_acquire().map_err(|_| ApiError::Overloaded)?;
        let id = Uuid::now_v7();
        let taken = Upload { jobs, id, is_kept: false };
        let bytes = taken.receive(content::length(&head.headers), body).await?;
        if bytes == 0 {
            return Err(ApiError::EmptyBody);
        }
        let reading = tokio::task::block_in_place(|| taken.plan(&order, encoding))?;
        let is_dry_run = order.is_dry_run;
        jobs.spool.order(id, &order).map_err(|error| on_disk(&error))?;
        let owner = caller.identity.to_string();
        let job = NewJob { id, name, owner, is_dry_run, reading, bytes };
        jobs.store.add(&job).await.map_err(|error| imports_away(&error))?;
        taken.keep()?;
        let job = jobs.store.find(id).await.map_err(|error| imports_away(&error))?;
        job.ok_or(ApiError::NoSuchImport)
    }
}

/// An upload; removed again unless it is kept.
struct Upload<'a> {
    jobs: &'a Jobs,
    id: Uuid,
    is_kept: bool,
}

impl Upload<'_> {
    async fn receive(&self, length: Option<u64>, body: &mut Body) -> Result<u64, ApiError> {
        let bytes_max = self.jobs.bytes_max;
        let too_large = || ApiError::ImportTooLarge { bytes_max };
        if length.is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let file = self.jobs.spool.create(self.id).map_err(|error| on_disk(&error))?;
        self.require_room(length.unwrap_or(0))?;
        let mut file = BufWriter::with_capacity(WRITE_BYTES, tokio::fs::File::from_std(file));
        let (mut bytes, mut checked_at) = (0, 0);
        let (mut due_bytes, mut due) = (PIECE_BYTES, Instant::now() + PIECE_TIME_MAX);
        loop {
            let next = tokio::time::timeout_at(due, body.frame()).await;
            let Some(frame) =
                next.map_err(|_| ApiError::BodyTimeout { seconds: PIECE_TIME_MAX.as_secs() })?
            else {
                break;
            };
            let Ok(piece) = frame.map_err(|_| ApiError::IncompleteBody)?.into_data() else {
                continue;
            };
            bytes += piece.len() as u64;
            if bytes > bytes_max {
                return Err(too_large());
            }
            if bytes >= due_bytes {
                (due_bytes, due) = (bytes + PIECE_BYTES, Instant::now() + PIECE_TIME_MAX);
            }
            if length.is_none() && bytes - checked_at > ROOM_CHECKED_EVERY {
                self.require_room(ROOM_CHECKED_EVERY)?;
                checked_at = bytes;
            }
            file.write_all(&piece).await.map_err(|error| on_disk(&error))?;
        }
        file.flush().await.map_err(|error| on_disk(&error))?;
        file.get_ref().sync_all().await.map_err(|error| on_disk(&error))?;
        Ok(bytes)
    }

    fn require_room(&self, bytes: u64) -> Result<(), ApiError> {
        match self.jobs.spool.has_room_for(bytes) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ApiError::NoSpace),
            Err(error) => Err(on_disk(&error)),
        }
    }

    /// Reads the beginning of the file: what cannot be imported is refused at once.
    fn plan(
        &self,
        order: &Order,
        encoding: Option<Encoding>,
    ) -> Result<serde_json::Value, ApiError> {
        let path = self.jobs.spool.part(self.id);
        let source = Source::open(&path).map_err(|error| on_disk(&error))?;
        if let Some(encoding) = encoding
            && source.encoding() != Some(encoding.name())
        {
            let reason = "it does not begin like one".to_owned();
            return Err(ApiError::BrokenCompression { encoding: encoding.name(), reason });
        }
        match Plan::of(source, &order.settings) {
            Ok(plan) => Ok(reading(&plan)),
            Err(PlanError::Io { source, .. }) => Err(ApiError::InvalidImport {
                detail: format!("the beginning of the file cannot be read: {source}"),
            }),
            Err(error) => Err(ApiError::InvalidImport { detail: error.to_string() }),
        }
    }

    /// From now on it is a job.
    fn keep(mut self) -> Result<(), ApiError> {
        self.jobs.spool.commit(self.id).map_err(|error| on_disk(&error))?;
        self.is_kept = true;
        self.jobs.added();
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.jobs.spool.remove(self.id);
        }
    }
}

/// What the query and the type say; the rest is guessed.
fn order(head: &Parts, caller: &Caller) -> Result<(Order, Option<String>), ApiError> {
    let user = caller.confined_to.as_deref().map(str::to_owned);
    let mut settings = Settings { format: declared(head)?, user, ..Settings::default() };
    let (mut is_dry_run, mut name) = (false, None);
    for (key, value) in form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()) {
        match (&*key, &*value) {
            ("format", "csv") => settings.format = Some(FormatName::Csv),
            ("format", "ndjson") => settings.format = Some(FormatName::Ndjson),
            ("delimiter", "tab") => settings.delimiter = Some(b'\t'),
            ("delimiter", one) if one.len() == 1 && one != "\"" => {
                settings.delimiter = Some(one.as_bytes()[0]);
            }
            ("map", pair) if pair.contains(':') => {
                let (column, member) = pair.rsplit_once(':').unwrap_or_default();
                let (column, member) = (column.to_owned(), member.to_owned());
                settings.overrides.push(Override { column, member });
            }
            ("dryRun", "true" | "1" | "") => is_dry_run = true,
            ("dryRun", "false" | "0") => is_dry_run = false,
            ("name", text) => {
                let text = text.chars().filter(|it| *it != '\0').take(NAME_CHARS_MAX);
                name = Some(text.collect());
            }
            ("format" | "delimiter" | "map" | "dryRun", wrong) => {
                let detail = format!(
                    "`{key}` is {wrong:?}; expected format=csv|ndjson, delimiter=CHARACTER|tab, \
                     map=COLUMN:MEMBER or dryRun=true|false"
                );
                return Err(ApiError::InvalidImport { detail });
            }
            _ => {} // A credential, or nothing of ours.
        }
    }
    Ok((Order { settings, is_dry_run }, name))
}

const NAME_CHARS_MAX: usize = 200;

fn declared(head: &Parts) -> Result<Option<FormatName>, ApiError> {
    let essence = content::essence_of(&head.headers).unwrap_or_default();
    match essence.as_str() {
        "text/csv" | "application/csv" | "text/tab-separated-values" => Ok(Some(FormatName::Csv)),
        _ if essence.starts_with("multipart/") => {
            Err(ApiError::UnsupportedMediaType { found: essence })
        }
        _ => match content::declared(&head.headers) {
            Ok(Declared::Lines) => Ok(Some(FormatName::Ndjson)),
            _ => Ok(None),
        },
    }
}

fn on_disk(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "an upload cannot be kept in IMPORT_DIR");
    ApiError::NoSpace
}

fn imports_away(error: &anyhow::Error) -> ApiError {
    tracing::warn!("imports are not told: {error:#}");
    ApiError::ImportsAway
}
