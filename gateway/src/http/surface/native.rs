//! Our own surface: JSON in every shape and CloudEvents; one verdict per event.

use std::borrow::Cow;

use axum::Json;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use common::event::Format;

use super::super::content::{self, Declared};
use super::super::error::ApiError;
use super::super::split::{Shape, split};
use super::super::verdict::{Verdicts, Wanted};
use super::{Submission, Surface, cloudevents, table};

pub fn open<'a>(
    head: &Parts,
    body: &'a [u8],
    is_user_known: bool,
) -> Result<Submission<'a>, ApiError> {
    let wanted = wanted(head.uri.query())?;
    let submission = |format, events, shape| Submission {
        surface: Surface::Native,
        format,
        events,
        shape,
        key: None,
        wanted,
        table: None,
    };
    if let Some(event) = cloudevents::binary(&head.headers, body) {
        return Ok(submission(Format::CloudEvent, vec![Cow::Owned(event)], Shape::Single));
    }
    let declared = content::declared(&head.headers)?;
    let format = match declared {
        Declared::CloudEvents => Format::CloudEvent,
        Declared::Lines | Declared::Nothing | Declared::Table => Format::Auto,
    };
    if declared == Declared::Table {
        let (events, table) = table::open(body, is_user_known)?;
        let submission = submission(format, events, Shape::Lines);
        return Ok(Submission { table: Some(table), ..submission });
    }
    let batch = split(body, declared)?;
    let events = batch.events.into_iter().map(Cow::Borrowed).collect();
    Ok(submission(format, events, batch.shape))
}

/// Whether the body can be what the head says.
pub fn check(head: &Parts) -> Result<(), ApiError> {
    wanted(head.uri.query())?;
    if !cloudevents::is_binary(&head.headers) {
        content::declared(&head.headers)?;
    }
    Ok(())
}

pub fn answer(verdicts: Verdicts) -> Result<Response, ApiError> {
    if verdicts.accepted == 0 {
        return Err(ApiError::NoneAccepted(verdicts));
    }
    Ok((verdicts.status(), Json(verdicts)).into_response())
}

/// The only parameter of a submission besides the credential.
fn wanted(query: Option<&str>) -> Result<Wanted, ApiError> {
    let pairs = query.unwrap_or_default().split('&');
    let results = pairs.filter_map(|pair| pair.strip_prefix("results=")).next_back();
    match results {
        None | Some("all") => Ok(Wanted::All),
        Some("errors") => Ok(Wanted::Errors),
        Some(other) => Err(ApiError::InvalidQuery { found: other.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_asked_for_are_all_or_the_errors() {
        assert_eq!(wanted(None).unwrap(), Wanted::All);
        assert_eq!(wanted(Some("api_key=x&results=errors")).unwrap(), Wanted::Errors);
        assert!(wanted(Some("results=some")).is_err());
    }
}
