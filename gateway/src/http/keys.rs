//! API keys over HTTP, for administrators: list, create, rotate, revoke.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use utoipa::ToSchema;
use uuid::Uuid;

use super::error::ApiError;
use super::{Gateway, body, content};
use crate::auth::{KeyRecord, KeyTerms, NewKey, Revocation, Right, parse_duration};

const NAME_CHARS_MAX: usize = 200;

const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a key is to be.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewKeyWish, example = json!({"name": "shop", "rights": "write", "limitPerMin": 6_000}))]
pub struct Wish {
    #[schema(min_length = 1, max_length = 200, pattern = r"\S")]
    name: String,
    rights: Right,
    /// Later than now; without it the key has no end.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// Requests (or events, as configured) a minute; without it there is no limit.
    #[schema(minimum = 1, maximum = 2_147_483_647)]
    limit_per_min: Option<u32>,
}

/// How a key gives way to its successor.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old key still counts; a day unless said.
    #[schema(example = "2h")]
    overlap: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct KeyList {
    keys: Vec<KeyRecord>,
}

pub fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/api/keys", get(list).post(create))
        .route("/api/keys/{id}", delete(revoke))
        .route("/api/keys/{id}/rotate", post(rotate))
}

#[utoipa::path(get, path = "/api/keys", tag = "Keys", summary = "List the API keys",
    responses((status = 200, description = "All keys, without their secrets.", body = inline(KeyList))))]
pub async fn list(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _body) = request.into_parts();
    gateway.admit_for(Right::Admin, &head).await?;
    let keys = gateway.access.store().list().await.map_err(|error| away(&error))?;
    Ok(Json(KeyList { keys }).into_response())
}

#[utoipa::path(post, path = "/api/keys", tag = "Keys", summary = "Make an API key",
    request_body = Wish,
    responses(
        (status = 201, description = "The secret is shown this once.", body = NewKey),
        (status = 400, description = "The body cannot be read, or a member has no usable value."),
        (status = 408, description = "The body did not arrive in time."),
        (status = 413, description = "The body is too large."),
        (status = 415, description = "The body's encoding cannot be read here."),
    ))]
pub async fn create(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, mut body) = request.into_parts();
    let made = gateway.create_key(&head, &mut body).await;
    finished(&head, body, made).await
}

#[utoipa::path(post, path = "/api/keys/{id}/rotate", tag = "Keys", summary = "Make a key's successor",
    params(("id" = Uuid, Path, description = "The old key.")),
    request_body = Option<Rotation>,
    responses(
        (status = 201, description = "The successor, with its secret.", body = NewKey),
        (status = 400, description = "The body cannot be read, or `overlap` is no duration."),
        (status = 404, description = "No key has this id."),
        (status = 408, description = "The body did not arrive in time."),
        (status = 409, description = "The key is not in force, or has a successor."),
        (status = 413, description = "The body is too large."),
        (status = 415, description = "The body's encoding cannot be read here."),
    ))]
pub async fn rotate(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, mut body) = request.into_parts();
    let made = gateway.rotate_key(&head, id, &mut body).await;
    finished(&head, body, made).await
}

/// Refused at once here, and within 5 s by the other gateways.
#[utoipa::path(delete, path = "/api/keys/{id}", tag = "Keys", summary = "Revoke a key",
    params(("id" = Uuid, Path, description = "The key.")),
    responses(
        (status = 204, description = "It is refused from now on; by other gateways within 5 s."),
        (status = 404, description = "No key has this id."),
        (status = 409, description = "It is the last admin key in force."),
    ))]
pub async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    id: Result<Path<Uuid>, PathRejection>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (head, _body) = request.into_parts();
    let caller = gateway.admit_for(Right::Admin, &head).await?;
    let Path(id) = id.map_err(|_no_uuid| ApiError::UnknownKey)?;
    match gateway.access.store().revoke_unless_last(id).await.map_err(|error| away(&error))? {
        Revocation::Unknown => return Err(ApiError::UnknownKey),
        Revocation::LastAdmin => return Err(ApiError::LastAdminKey),
        Revocation::Revoked => {}
    }
    gateway.access.forget(id);
    info!(key = %id, by = %caller.identity, "an API key is revoked");
    Ok(StatusCode::NO_CONTENT)
}

impl Gateway {
    async fn create_key(&self, head: &Parts, body: &mut Body) -> Result<NewKey, ApiError> {
        let caller = self.admit_for(Right::Admin, head).await?;
        let wish: Wish = self.read_json(head, body).await?.ok_or(ApiError::EmptyBody)?;
        let name = wish.name.trim();
        if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) || name.contains('\0') {
            return Err(invalid("/name", "a name has 1 to 200 characters"));
        }
        if wish.expires_at.is_some_and(|at| at <= Timestamp::now()) {
            return Err(invalid(
                "/expiresAt",
                "this time is past; leave it out for a key without end",
            ));
        }
        if wish.limit_per_min.is_some_and(|it| it == 0 || i32::try_from(it).is_err()) {
            return Err(invalid(
                "/limitPerMin",
                "a limit is 1 to 2147483647; leave it out for none",
            ));
        }
        let terms = KeyTerms {
            name,
            rights: wish.rights,
            expires_at: wish.expires_at,
            limit_per_min: wish.limit_per_min,
        };
        let made = self.access.store().create_with(terms).await.map_err(|error| away(&error))?;
        info!(key = %made.id, rights = %made.rights, by = %caller.identity, "an API key is made");
        Ok(made)
    }

    async fn rotate_key(
        &self,
        head: &Parts,
        id: Result<Path<Uuid>, PathRejection>,
        body: &mut Body,
    ) -> Result<NewKey, ApiError> {
        let caller = self.admit_for(Right::Admin, head).await?;
        let Path(id) = id.map_err(|_no_uuid| ApiError::UnknownKey)?;
        let rotation: Rotation = self.read_json(head, body).await?.unwrap_or_default();
        let overlap = match rotation.overlap.as_deref().map(parse_duration) {
            None => OVERLAP_DEFAULT,
            Some(Ok(overlap)) => overlap,
            Some(Err(detail)) => return Err(invalid("/overlap", detail)),
        };
        let keys = self.access.store().list().await.map_err(|error| away(&error))?;
        let key = keys.iter().find(|key| key.id == id).ok_or(ApiError::UnknownKey)?;
        let made = self
            .access
            .store()
            .rotate(id, key.rights, overlap)
            .await
            .map_err(|error| away(&error))?;
        let made = made.ok_or(ApiError::NotRotatable)?;
        // Read again on its next use, with its end.
        self.access.forget(id);
        info!(key = %id, successor = %made.id, by = %caller.identity, "an API key is rotated");
        Ok(made)
    }

    /// `None` when there is no body.
    async fn read_json<T: DeserializeOwned>(
        &self,
        head: &Parts,
        body: &mut Body,
    ) -> Result<Option<T>, ApiError> {
        let mut share = self.budget.share();
        let encoding = content::encoding(&head.headers)?;
        let bytes = body::read(encoding, body, &mut share, self.body_time_max).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            let code = if error.is_data() { "invalid_member" } else { "invalid_json" };
            ApiError::Unreadable { code, pointer: "", detail: error.to_string() }
        })
    }
}

/// The answer holds a secret: nobody on the way may keep it.
async fn finished(
    head: &Parts,
    body: Body,
    made: Result<NewKey, ApiError>,
) -> Result<Response, ApiError> {
    match made {
        Ok(made) => {
            let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            Ok((StatusCode::CREATED, no_store, Json(made)).into_response())
        }
        Err(error) => {
            body::discard(&head.headers, body).await;
            Err(error)
        }
    }
}

fn invalid(pointer: &'static str, detail: impl Into<String>) -> ApiError {
    ApiError::Unreadable { code: "invalid_member", pointer, detail: detail.into() }
}

fn away(error: &anyhow::Error) -> ApiError {
    warn!("API keys cannot be read or changed: {error:#}");
    ApiError::StoreAway
}
