//! The API's description (OpenAPI 3.1): what the handlers say of themselves, and a path for each door.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::http::{Door, ProblemDocument, Verdicts, doors};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tallyman",
        description = "Takes user actions over HTTP and answers once Kafka has them; each is counted exactly once.",
    ),
    components(schemas(Verdicts, ProblemDocument))
)]
struct Described;

/// The one text of the event's shape is its schema; here it is a component.
const EVENT: &str = include_str!("../../../schemas/event.v1.schema.json");

pub fn document() -> Value {
    let described = serde_json::to_value(Described::openapi());
    let mut document = described.expect("a description becomes JSON");
    document["components"]["schemas"]["Event"] = event_schema();
    document["components"]["securitySchemes"] = credentials();
    document["security"] = json!([{"apiKey": []}, {"bearer": []}, {"basic": []}]);
    let paths = document["paths"].as_object_mut().expect("a description has paths");
    for (path, door) in doors() {
        paths.insert(path.to_owned(), json!({"post": submission(door)}));
    }
    document
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

fn submission(door: Door) -> Value {
    let mut operation = json!({
        "tags": [door.vendor()],
        "summary": door.summary(),
        "requestBody": {"required": true, "content": body(door)},
        "responses": responses(door),
    });
    if door.is_native() {
        operation["parameters"] = json!([{
            "name": "results", "in": "query",
            "description": "`errors` leaves the accepted events out of `results`.",
            "schema": {"type": "string", "enum": ["all", "errors"], "default": "all"},
        }]);
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
        "application/x-ndjson": {"schema": {"type": "string", "description": "One event a line."}},
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
        let is_of_events = *status == "422";
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
    ("413", "The request is too large; split it."),
    ("415", "The body's type or encoding cannot be read here."),
    ("422", "None can be accepted; the verdicts are part of the problem."),
    ("429", "Too many; send the same again after `Retry-After`."),
    ("503", "Kafka cannot be reached, or too much at the moment; send the same again."),
];

fn refusal(door: Door) -> Value {
    if door == Door::Amplitude || door == Door::PostHog {
        return json!({
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}},
            "application/json": {"schema": {"type": "object", "required": ["code", "error"]}},
        });
    }
    json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}})
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
}
