//! The part of the API's description that is about answers: statistics, counters and stored events.

use serde_json::{Map, Value, json};

/// Each path with its one operation.
pub fn paths() -> Map<String, Value> {
    let unit = |units: &[&str]| json!({"name": "unit", "in": "query", "schema": {"type": "string", "enum": units}});
    let number = |name: &str, text: &str| json!({"name": name, "in": "query", "description": text, "schema": {"type": "integer", "minimum": 1}});
    let text = |name: &str, text: &str| json!({"name": name, "in": "query", "description": text, "schema": {"type": "string"}});
    let limit = || number("limit", "How many at most, up to 1,000; 100 by default.");
    let days = || unit(&["day", "week", "month"]);
    let series = |members: Value| list("series", &members);
    let items = |members: Value| list("items", &members);
    let stats = [
        (
            "dau",
            "Active users by day, week or month",
            with(&[range(), filters(), vec![days()]]),
            series(json!({"day": DATE, "users": 1})),
        ),
        (
            "retention",
            "Users by the day of their first event ever, and how many of them came back",
            with(&[
                range(),
                vec![
                    days(),
                    text(
                        "mode",
                        "`nday`: active in just that unit; `unbounded`: in it or a later one.",
                    ),
                    number("periods", "Units a row has at most."),
                ],
            ]),
            list("cohorts", &json!({"day": DATE, "size": 3, "retained": [3, 1]})),
        ),
        (
            "top-events",
            "Types of events by how often they happened",
            with(&[range(), filters(), vec![limit()]]),
            items(json!({"type": "like", "count": 3, "users": 2})),
        ),
        (
            "top-objects",
            "Objects to which most was done; without a range in all up to now",
            with(&[range(), filters(), vec![limit()]]),
            items(json!({"objectType": "post", "objectId": "123", "count": 3})),
        ),
        (
            "activity",
            "What happened by minute, hour or day; `users` is absent by minute where there are more than a \
             million events",
            with(&[
                range(),
                filters(),
                vec![
                    unit(&["minute", "hour", "day", "week", "month"]),
                    text("by", "`type` or `source`"),
                ],
            ]),
            series(json!({"start": "2026-11-21T10:00:00Z", "count": 3, "users": 2, "by": "like"})),
        ),
        (
            "funnel",
            "Users who did one thing after another",
            with(&[
                range(),
                filters().into_iter().filter(|it| it["name"] != "type").collect(),
                vec![
                    text("steps", "Types of events in their order: `view,like,purchase`."),
                    text(
                        "within",
                        "How soon after the first the others have to come; `1d` by default.",
                    ),
                ],
            ]),
            list("steps", &json!({"type": "view", "users": 3})),
        ),
    ];
    let mut paths: Map<String, Value> = stats
        .into_iter()
        .map(|(name, summary, parameters, example)| {
            (
                format!("/api/stats/{name}"),
                operation("Statistics", summary, &parameters, &json_of(&example)),
            )
        })
        .collect();
    let path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let counters = json_of(&json!({
        "objectType": "post", "objectId": "123", "counts": {"like": 7}, "asOf": "2026-11-21T10:00:00Z",
    }));
    paths.insert(
        "/api/objects/{type}/{id}/counters".into(),
        operation(
            "Statistics",
            "Every counter of one object",
            &[path("type"), path("id")],
            &counters,
        ),
    );
    let cursor = text("cursor", "`next` of the page before; an export has none.");
    let parameters = with(&[range(), filters(), vec![limit(), cursor]]);
    let mut page = list("events", &json!({"eventId": "e1", "type": "like", "userId": "u1"}));
    page["next"] = "AAY…".into();
    let mut content = json_of(&page);
    content["application/x-ndjson"] =
        json!({"schema": {"type": "string", "description": "All, one a line."}});
    content["text/csv"] = json!({"schema": {"type": "string", "description": "All, as a table."}});
    let summary = "Stored events: pages of them, newest first, or an export of all by `Accept`";
    paths.insert("/api/events".into(), operation("Events", summary, &parameters, &content));
    paths
}

const DATE: &str = "2026-11-21";

fn with(parts: &[Vec<Value>]) -> Vec<Value> {
    parts.concat()
}

fn range() -> Vec<Value> {
    let text = |name: &str, text: &str| json!({"name": name, "in": "query", "description": text, "schema": {"type": "string"}});
    vec![
        text("from", "A date, or a time in RFC 3339; included."),
        text("to", "The same; not included."),
        text("tz", "The zone whose days count: `Europe/Berlin`, `+02:00`; UTC by default."),
    ]
}

fn filters() -> Vec<Value> {
    let filter = |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    crate::stats::FILTERS.iter().map(filter).collect()
}

/// An answer that is a list of such members.
fn list(name: &str, members: &Value) -> Value {
    json!({name: [members], "asOf": "2026-11-21T10:00:00Z"})
}

fn json_of(example: &Value) -> Value {
    json!({"application/json": {"schema": {"type": "object"}, "example": example}})
}

fn operation(tag: &str, summary: &str, parameters: &[Value], content: &Value) -> Value {
    let problem = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}});
    let refusal = |text: &str| json!({"description": text, "content": problem});
    json!({"get": {
        "tags": [tag],
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "The answer, by when it is (`asOf`).", "content": content},
            "400": refusal("A parameter cannot be used."),
            "401": refusal("No credential, or one that is not known here."),
            "403": refusal("The credential lacks the right `read`."),
            "503": refusal("It takes too long, or Postgres cannot be reached; ask again after `Retry-After`."),
        },
    }})
}
