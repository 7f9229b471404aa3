//! What became of each event of a request, and which status the mixture has (pure).

use std::borrow::Cow;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::error::Item;

/// One verdict per event, in input order.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Verdicts {
    pub accepted: usize,
    pub rejected: usize,
    pub retry: usize,
    results: Vec<Verdict>,
    #[serde(skip)]
    wanted: Wanted,
}

/// For the API's description: the members of `Verdicts` in a problem document that may have none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub struct VerdictsIfAny {
    accepted: Option<usize>,
    rejected: Option<usize>,
    retry: Option<usize>,
    results: Option<Vec<Verdict>>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    pub status: Status,
    #[serde(flatten)]
    #[schema(value_type = ReasonIfAny)]
    pub reason: Option<Reason>,
    /// What would be stored, where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    event: Option<Box<RawValue>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Accepted,
    Rejected,
    Retry,
}

impl Verdict {
    fn of(index: usize, status: Status) -> Self {
        Self { index, event_id: None, status, reason: None, event: None }
    }
}

/// Why an event was not accepted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reason {
    pub code: &'static str,
    /// Into the request body; nothing in it can mend a `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    #[schema(value_type = String)]
    pub detail: Cow<'static, str>,
}

/// For the API's description, which takes a flattened `Option` for an object that may be null.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
struct ReasonIfAny {
    code: Option<String>,
    pointer: Option<String>,
    detail: Option<String>,
}

/// Which results the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    #[default]
    All,
    Errors,
}

impl Verdicts {
    pub fn new(wanted: Wanted, events: usize) -> Self {
        let room = if wanted == Wanted::All { events } else { 0 };
        Self { wanted, results: Vec::with_capacity(room), ..Self::default() }
    }

    pub fn accept(&mut self, event_id: String) {
        let index = self.len();
        self.accepted += 1;
        if self.wanted == Wanted::All {
            let event_id = Some(event_id);
            self.results.push(Verdict { event_id, ..Verdict::of(index, Status::Accepted) });
        }
    }

    /// It would be accepted as this event, and was not stored.
    pub fn find_valid(&mut self, event_id: String, event: Box<RawValue>) {
        let index = self.len();
        self.accepted += 1;
        if self.wanted == Wanted::All {
            let (event_id, event) = (Some(event_id), Some(event));
            self.results.push(Verdict { event_id, event, ..Verdict::of(index, Status::Accepted) });
        }
    }

    /// `event_id`: what the event was sent under, when that can be read.
    pub fn reject(&mut self, event_id: Option<String>, reason: Reason) {
        let index = self.len();
        self.rejected += 1;
        let reason = Some(reason);
        self.results.push(Verdict { event_id, reason, ..Verdict::of(index, Status::Rejected) });
    }

    /// The outcome is unknown; the client sends again under this id.
    pub fn retry(&mut self, event_id: String, code: &'static str, detail: &'static str) {
        let index = self.len();
        self.retry += 1;
        let reason = Some(Reason { code, pointer: None, detail: detail.into() });
        let event_id = Some(event_id);
        self.results.push(Verdict { event_id, reason, ..Verdict::of(index, Status::Retry) });
    }

    /// In input order; without the accepted, unless all were wanted.
    pub fn all(&self) -> &[Verdict] {
        &self.results
    }

    /// Events judged so far.
    pub(super) fn len(&self) -> usize {
        self.accepted + self.rejected + self.retry
    }

    pub fn status(&self) -> StatusCode {
        match (self.accepted, self.rejected, self.retry) {
            (_, 0, 0) => StatusCode::ACCEPTED,
            (0, _, 0) => StatusCode::UNPROCESSABLE_ENTITY,
            (0, _, _) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::MULTI_STATUS,
        }
    }

    /// Of an answer without accepted events: the only event's own code, or one for them all.
    pub fn code(&self) -> &'static str {
        match self.decisive() {
            Some(reason) if self.len() == 1 || self.retry > 0 => reason.code,
            _ => "events_rejected",
        }
    }

    pub fn title(&self) -> &'static str {
        match (self.retry, self.len()) {
            (0, 1) => "The event was rejected",
            (0, _) => "All events were rejected",
            _ => "Try again shortly",
        }
    }

    pub fn summary(&self) -> String {
        match self.decisive() {
            Some(reason) if self.len() == 1 => reason.detail.to_string(),
            Some(reason) if self.retry > 0 => {
                format!(
                    "{} of {} events are to be sent again: {}",
                    self.retry,
                    self.len(),
                    reason.detail
                )
            }
            _ => format!(
                "none of the {} events can be accepted; `results` says why and where",
                self.len()
            ),
        }
    }

    /// What a problem document lists as its errors.
    pub fn errors(&self) -> impl Iterator<Item = Item> {
        self.results.iter().filter_map(|verdict| verdict.reason.as_ref()).map(|reason| Item {
            code: reason.code,
            pointer: reason.pointer.clone().map(Cow::Owned),
            detail: reason.detail.to_string(),
        })
    }

    /// Codes of the rejected, for the metrics.
    pub fn rejected_codes(&self) -> impl Iterator<Item = &'static str> {
        let rejected = self.results.iter().filter(|verdict| verdict.status == Status::Rejected);
        rejected.filter_map(|verdict| verdict.reason.as_ref()).map(|reason| reason.code)
    }

    /// The reason the whole answer goes by: a retry outweighs a rejection.
    fn decisive(&self) -> Option<&Reason> {
        let wanted = if self.retry > 0 { Status::Retry } else { Status::Rejected };
        self.results.iter().find(|verdict| verdict.status == wanted)?.reason.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(accepted: usize, rejected: usize, retry: usize) -> Verdicts {
        let mut verdicts = Verdicts::new(Wanted::All, accepted + rejected + retry);
        (0..accepted).for_each(|_| verdicts.accept("a".into()));
        (0..rejected).for_each(|_| {
            let reason = Reason { code: "missing_type", pointer: None, detail: "no type".into() };
            verdicts.reject(None, reason);
        });
        (0..retry).for_each(|_| verdicts.retry("r".into(), "broker_away", "no answer"));
        verdicts
    }

    #[test]
    fn every_mixture_has_its_status() {
        for (accepted, rejected, retry, status) in [
            (2, 0, 0, 202),
            (0, 2, 0, 422),
            (0, 0, 2, 503),
            (0, 1, 1, 503),
            (1, 1, 0, 207),
            (1, 0, 1, 207),
            (1, 1, 1, 207),
        ] {
            let mixture = verdicts(accepted, rejected, retry);
            assert_eq!(mixture.status().as_u16(), status, "{accepted} {rejected} {retry}");
        }
    }

    #[test]
    fn the_accepted_are_left_out_on_request_and_still_counted() {
        let mut verdicts = Verdicts::new(Wanted::Errors, 2);
        verdicts.accept("a".into());
        verdicts.retry("b".into(), "broker_away", "no answer");
        let json = serde_json::to_value(&verdicts).unwrap();
        assert_eq!(json["accepted"], 1);
        assert_eq!(json["results"].as_array().unwrap().len(), 1);
        assert_eq!(json["results"][0]["index"], 1);
    }

    #[test]
    fn one_event_lends_its_code_to_the_whole_answer_and_a_retry_outweighs_a_rejection() {
        assert_eq!(verdicts(0, 1, 0).code(), "missing_type");
        assert_eq!(verdicts(0, 2, 0).code(), "events_rejected");
        assert_eq!(verdicts(0, 2, 1).code(), "broker_away");
    }
}
