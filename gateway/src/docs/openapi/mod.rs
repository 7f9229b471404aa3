//! The API's description (OpenAPI 3.1): what the handlers say of themselves, and a path for each door.

mod doors;

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::answers;
use crate::http::{ProblemDocument, Verdicts, doors, imports, keys, pipeline};
use crate::push;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tallyman",
        description = "Takes user actions over HTTP and answers once Kafka has them; each is counted exactly once.",
    ),
    paths(
        keys::list,
        keys::create,
        keys::revoke,
        keys::rotate,
        imports::create,
        imports::show,
        push::notifications_ws,
        push::notifications_stream,
        push::events_live,
        pipeline::report,
        pipeline::trace,
        pipeline::dead_letters,
        probes::livez,
        probes::readyz,
        probes::metrics,
    ),
    components(schemas(Verdicts, ProblemDocument)),
    tags(
        (name = "Tallyman", description = "Events in our own form and the two flat ones."),
        (name = "Statistics", description = "What was counted, right to the event."),
        (name = "Push", description = "Notifications and live events, as they come."),
        (name = "Imports", description = "Whole files of events."),
        (name = "Keys", description = "For administrators."),
        (name = "Segment and RudderStack", description = "Their SDKs, unmodified."),
        (name = "PostHog", description = "Its SDKs, unmodified."),
        (name = "Amplitude", description = "Its SDKs, unmodified."),
        (name = "Probes", description = "For load balancers and Prometheus; without a credential."),
    )
)]
struct Described;

/// The routes that every daemon has: `common::admin` serves them and knows nothing of OpenAPI.
mod probes {
    #[utoipa::path(get, path = "/livez", tag = "Probes", security(()),
        responses((status = 200, description = "The process runs.", body = String, content_type = "text/plain")))]
    #[expect(dead_code, reason = "the description of what `common::admin` answers")]
    pub fn livez() {}

    #[utoipa::path(get, path = "/readyz", tag = "Probes", security(()),
        params(("verbose" = Option<bool>, Query, description = "Tells each dependency's state, as JSON.")),
        responses(
            (status = 200, description = "Events are taken.", content(
                (String = "text/plain"), (serde_json::Value = "application/json"))),
            (status = 503, description = "Not now.", content(
                (String = "text/plain"), (serde_json::Value = "application/json"))),
        ))]
    #[expect(dead_code, reason = "the description of what `common::admin` answers")]
    pub fn readyz() {}

    #[utoipa::path(get, path = "/metrics", tag = "Probes", security(()),
        responses((status = 200, description = "For Prometheus.", body = String, content_type = "text/plain")))]
    #[expect(dead_code, reason = "the description of what `common::admin` answers")]
    pub fn metrics() {}
}

/// The one text of the event's shape is its schema; here it is a component.
const EVENT: &str = include_str!("../../../../schemas/event.v1.schema.json");

/// What may be refused wherever a credential is asked for.
const REFUSALS: [(&str, &str); 4] = [
    ("401", "No credential, or one that is not known here."),
    ("403", "The credential lacks the right."),
    ("429", "Too many; send the same again after `Retry-After`."),
    ("503", "Not at the moment; send the same again after `Retry-After`."),
];

pub fn document() -> Value {
    let described = serde_json::to_value(Described::openapi());
    let mut document = described.expect("a description becomes JSON");
    document["components"]["schemas"]["Event"] = event_schema();
    document["components"]["securitySchemes"] = credentials();
    document["security"] = json!([{"apiKey": []}, {"bearer": []}, {"basic": []}]);
    let paths = document["paths"].as_object_mut().expect("a description has paths");
    for (path, door) in doors() {
        paths.insert(path.to_owned(), json!({"post": doors::operation(door)}));
    }
    for (path, operation) in answers::paths() {
        let described = paths.entry(path).or_insert_with(|| json!({}));
        described["get"] = operation["get"].clone();
    }
    for (path, operations) in paths {
        for (method, operation) in operations.as_object_mut().into_iter().flatten() {
            complete(operation);
            operation["operationId"] = operation_id(method, path).into();
        }
    }
    document
}

/// Adds what handlers need not say: the usual refusals, and that each is a problem document.
fn complete(operation: &mut Value) {
    let is_open = operation.get("security").is_some();
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    if !is_open {
        for (status, description) in REFUSALS {
            responses
                .entry(status)
                .or_insert_with(|| json!({"description": description, "content": null}));
        }
    }
    for (status, response) in responses {
        if status.starts_with(['4', '5']) && response.get("content").is_none_or(Value::is_null) {
            response["content"] = problem();
        }
    }
}

/// `POST /v1/batch` is `post_v1_batch`.
fn operation_id(method: &str, path: &str) -> String {
    format!("{method}{}", path.replace(['/', '-', '.'], "_").replace(['{', '}'], ""))
}

fn problem() -> Value {
    json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}})
}

/// References inside the schema are to its own definitions, wherever it lies.
fn event_schema() -> Value {
    let text = EVENT.replace("\"#/$defs/", "\"#/components/schemas/Event/$defs/");
    let mut schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    if let Some(schema) = schema.as_object_mut() {
        // An identifier of its own would make it the base of those references.
        schema.remove("$id");
        schema.remove("$schema");
    }
    schema
}

fn credentials() -> Value {
    json!({
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a JWT."},
        "basic": {"type": "http", "scheme": "basic", "description": "The API key as the user."},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value.as_str() {
                        Some(reference) if name == "$ref" => into.push(reference),
                        _ => references(value, into),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_door_is_described() {
        let document = document();
        for (path, _) in doors() {
            assert!(document["paths"][path]["post"]["responses"]["401"].is_object(), "{path}");
        }
    }

    #[test]
    fn every_question_is_described() {
        let document = document();
        for name in ["dau", "retention", "top-events", "top-objects", "activity", "funnel"] {
            let operation = &document["paths"][format!("/api/stats/{name}")]["get"];
            assert!(operation["responses"]["503"].is_object(), "{name}");
        }
        let events = &document["paths"]["/api/events"];
        assert!(events["get"].is_object() && events["post"].is_object());
    }

    #[test]
    fn every_refusal_is_a_problem_document() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let operations = paths.values().flat_map(|path| path.as_object().unwrap().values());
        let responses = operations.flat_map(|it| it["responses"].as_object().unwrap());
        for (status, response) in responses.filter(|(status, _)| status.starts_with('4')) {
            assert!(
                response["content"]["application/problem+json"].is_object(),
                "{status}: {response}"
            );
        }
    }
}
