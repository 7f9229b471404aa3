//! The doors of events, described: what each takes and answers.

use serde_json::{Map, Value, json};

use super::problem;
use crate::http::Door;

pub fn operation(door: Door) -> Value {
    let mut operation = json!({
        "tags": [door.vendor()],
        "summary": door.summary(),
        "requestBody": {"required": true, "content": body(door)},
        "responses": responses(door),
    });
    if door.is_native() {
        operation["parameters"] = json!([
            {
                "name": "results", "in": "query",
                "description": "`errors` leaves the accepted events out of `results`.",
                "schema": {"type": "string", "enum": ["all", "errors"], "default": "all"},
            },
            {
                "name": "Idempotency-Key", "in": "header",
                "description": "The same request under the same key is done once, and answered twice alike within 24 hours.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!#-~]+$"},
            },
        ]);
    }
    operation
}

fn body(door: Door) -> Value {
    if !door.is_native() {
        let what = format!("As {} sends it; the type is not looked at.", door.vendor());
        return json!({"application/json": {"schema": {"type": ["object", "array"], "description": what}}});
    }
    let event = json!({"$ref": "#/components/schemas/Event"});
    json!({
        "application/json": {
            "schema": {"anyOf": [
                event,
                {"type": "array", "items": event, "minItems": 1, "maxItems": 2_000},
                {"type": "object", "required": ["events"], "properties": {
                    "events": {"type": "array", "items": event, "minItems": 1, "maxItems": 2_000},
                }},
            ]},
            "examples": {
                "one": {"value": {"type": "like", "userId": "u1", "postId": "123"}},
                "several": {"value": [
                    {"type": "view", "userId": "u1", "postId": "123"},
                    {"type": "like", "userId": "u1", "postId": "123", "eventId": "e-17"},
                ]},
            },
        },
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "One event a line."},
            "example": "{\"type\":\"view\",\"userId\":\"u1\"}\n{\"type\":\"like\",\"userId\":\"u1\",\"postId\":\"123\"}\n",
        },
        "text/csv": {
            "schema": {"type": "string", "description": "A header, then one event a line."},
            "example": "type,userId,postId\nlike,u1,123\n",
        },
        "application/cloudevents+json": {
            "schema": {"type": "object", "required": ["specversion", "id", "source", "type"]},
            "example": {
                "specversion": "1.0", "id": "e-17", "source": "/shop", "type": "like",
                "subject": "post/123", "data": {"userId": "u1"},
            },
        },
        "application/cloudevents-batch+json": {
            "schema": {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 2_000},
        },
    })
}

fn responses(door: Door) -> Value {
    let mut responses = Map::new();
    let mut add = |status: &str, description: &str, content: Value| {
        let response = json!({"description": description, "content": content});
        responses.insert(status.to_owned(), response);
    };
    if door.is_native() {
        let verdicts =
            json!({"application/json": {"schema": {"$ref": "#/components/schemas/Verdicts"}}});
        let (status, all) = if door == Door::Validation {
            ("200", "All would be accepted; nothing is stored.")
        } else {
            ("202", "All are accepted: the in-sync replicas have them.")
        };
        add(status, all, verdicts.clone());
        add("207", "Some are accepted; `results` has a verdict for each.", verdicts);
    } else {
        add(
            "200",
            "As its SDKs need it.",
            json!({"application/json": {"schema": {"type": "object"}}}),
        );
    }
    for (status, description) in REFUSALS {
        let is_of_events = matches!(*status, "409" | "422");
        if !is_of_events || door.is_native() {
            add(status, description, refusal(door));
        }
    }
    Value::Object(responses)
}

const REFUSALS: &[(&str, &str)] = &[
    ("400", "The body cannot be read."),
    ("401", "No credential, or one that is not known here."),
    ("403", "The credential lacks the right `write`."),
    ("408", "The body did not arrive in time; send the same again."),
    ("409", "A request under the same `Idempotency-Key` is being worked on."),
    ("413", "The request is too large; split it."),
    ("415", "The body's type or encoding cannot be read here."),
    (
        "422",
        "None can be accepted, the verdicts are part of the problem; or the `Idempotency-Key` was used for another body.",
    ),
    ("429", "Too many; send the same again after `Retry-After`."),
    ("503", "Kafka cannot be reached, or too much at the moment; send the same again."),
];

/// Its SDKs read Amplitude's own form; PostHog's path takes their batches too.
fn refusal(door: Door) -> Value {
    let mut content = problem();
    if matches!(door, Door::Amplitude | Door::PostHog) {
        content["application/json"] =
            json!({"schema": {"type": "object", "required": ["code", "error"]}});
    }
    content
}
