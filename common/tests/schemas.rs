//! Every example under `schemas/examples` does what its place says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::event::{self, Arrival, Event, InvalidEvent};
use common::notification::{self, Cause, Notification, Rule};
use jiff::Timestamp;
use jsonschema::Validator;
use serde_json::Value;

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn document(name: &str) -> Value {
    let path = schemas().join(format!("{name}.schema.json"));
    serde_json::from_slice(&read(&path)).expect("a schema is JSON")
}

fn schema(name: &str) -> Validator {
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&document(name)).expect("a schema by its own rules")
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file to read")
}

/// Name and bytes of each file.
fn examples(of: &str) -> Vec<(String, Vec<u8>)> {
    let folder = schemas().join("examples").join(of);
    let files = std::fs::read_dir(folder).expect("a folder of examples");
    let paths = files.map(|file| file.expect("a file to read").path());
    let mut examples = paths
        .map(|path| (path.file_name().unwrap_or_default().display().to_string(), read(&path)))
        .collect::<Vec<_>>();
    examples.sort();
    assert!(!examples.is_empty(), "{of} is empty");
    examples
}

/// `missing_user.null.json` is to fail with `missing_user`.
fn code_in(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().expect("a time")
}

fn parse(bytes: &[u8]) -> Result<Event, InvalidEvent> {
    let bytes_max = event::EVENT_BYTES_MAX;
    let arrival = Arrival { received_at: now(), now: now(), source: "http", user: None, bytes_max };
    event::parse(bytes, &arrival, || "drawn".into())
}

fn must_fit(schema: &Validator, value: &Value, name: &str) {
    if let Err(error) = schema.validate(value) {
        panic!("{name}: {error} at {}", error.instance_path());
    }
}

#[test]
fn every_accepted_event_parses_and_fits_its_schema() {
    let (event_schema, unique_schema) = (schema("event.v1"), schema("unique-action.v1"));
    for (name, bytes) in examples("event.v1/accepted") {
        let event = parse(&bytes).unwrap_or_else(|invalid| panic!("{name}: {invalid}"));
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        must_fit(&event_schema, &serde_json::from_slice(text).unwrap(), &name);

        let mut unique = Vec::new();
        event.write_json(Some(now()), &mut unique);
        must_fit(&unique_schema, &serde_json::from_slice(&unique).unwrap(), &name);
        assert_eq!(parse(&unique).unwrap(), event, "{name}");
    }
}

#[test]
fn every_rejected_event_fails_for_the_reason_its_name_gives() {
    for (name, bytes) in examples("event.v1/rejected") {
        let invalid = parse(&bytes).map(|event| panic!("{name}: {event:?}")).unwrap_err();
        assert_eq!(invalid.code(), code_in(&name), "{name}: {invalid}");
    }
}

#[test]
fn what_a_schema_can_say_the_schema_says() {
    let sayable =
        ["missing_type", "missing_user", "not_an_object", "source_too_long", "unhashable_member"];
    let schema = schema("event.v1");
    for (name, bytes) in examples("event.v1/rejected") {
        if sayable.contains(&code_in(&name)) {
            assert!(!schema.is_valid(&serde_json::from_slice(&bytes).unwrap()), "{name}");
        }
    }
}

#[test]
fn every_reason_has_an_example() {
    let examples = examples("event.v1/rejected");
    let shown = examples.iter().map(|(name, _)| code_in(name)).collect::<BTreeSet<_>>();
    // A missing value is no file, and 1 MiB is too much of one.
    let without = ["null_value", "too_large"];
    let all = InvalidEvent::ALL_CODES.into_iter().filter(|code| !without.contains(code));
    assert_eq!(shown, all.collect());
}

#[test]
fn a_flat_event_of_136_members_and_one_of_14_keep_them_all() {
    let examples = examples("event.v1/accepted");
    for (name, members) in [("content_event_of_136_fields.json", 136), ("product_event.json", 14)] {
        let (_, bytes) = examples.iter().find(|(file, _)| file == name).unwrap();
        let sent: Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(sent.as_object().unwrap().len(), members);
        let kept: Value = serde_json::from_str(&parse(bytes).unwrap().properties).unwrap();
        assert_eq!(kept, sent);
    }
}

#[test]
fn every_notification_passes_the_struct_unchanged_under_the_id_of_its_cause() {
    let schema = schema("notification.v1");
    for (name, bytes) in examples("notification.v1/accepted") {
        let sent: Value = serde_json::from_slice(&bytes).unwrap();
        must_fit(&schema, &sent, &name);
        let read: Notification = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), sent, "{name}");

        let alert = &read.data;
        let cause = match alert.rule {
            Rule::Milestone => Cause::Milestone(alert.expected as u64),
            _ => Cause::Window(alert.window.unwrap()),
        };
        let id = notification::id(alert.rule, &alert.key, alert.status, cause);
        assert_eq!(id, read.id, "{name}");
        assert_eq!(Notification::new(cause, read.time, alert.clone()), read, "{name}");
    }
}

#[test]
fn every_window_and_every_report_of_metrics_fits_its_schema() {
    for of in ["aggregate.v1", "service-metrics.v1"] {
        let schema = schema(of);
        for (name, bytes) in examples(&format!("{of}/accepted")) {
            must_fit(&schema, &serde_json::from_slice(&bytes).unwrap(), &name);
        }
    }
}

#[test]
fn the_examples_inside_the_schemas_fit_them() {
    for name in
        ["event.v1", "unique-action.v1", "notification.v1", "aggregate.v1", "service-metrics.v1"]
    {
        for example in document(name)["examples"].as_array().unwrap() {
            must_fit(&schema(name), example, name);
        }
    }
}

/// The description of topics and sockets, with the schemas it refers to in their places.
fn asyncapi() -> Value {
    let text = read(&schemas().join("asyncapi.yaml"));
    let mut document: Value = serde_saphyr::from_slice(&text).expect("a description in YAML");
    let messages = document["components"]["messages"].as_object_mut().expect("messages");
    for message in messages.values_mut() {
        let reference = message["payload"]["$ref"].as_str().unwrap_or_default();
        let Some(file) = reference.strip_prefix("./") else { continue };
        let name = file.trim_end_matches(".schema.json");
        message["payload"] = self::document(name);
    }
    document
}

#[test]
fn what_the_description_of_the_topics_shows_is_what_its_schemas_take() {
    let document = asyncapi();
    let messages = document["components"]["messages"].as_object().expect("messages");
    let mut shown = 0;
    for (name, message) in messages {
        let mut payload = message["payload"].clone();
        // References inside our description are to its own components.
        if let Some(schema) = payload.as_object_mut() {
            schema.insert("components".into(), document["components"].clone());
        }
        let Some(examples) = message["examples"].as_array() else { continue };
        let payload = jsonschema::draft202012::options().build(&payload).expect("a schema");
        for example in examples {
            must_fit(&payload, &example["payload"], name);
            shown += 1;
        }
    }
    assert!(shown >= 4, "{shown} examples");
}

#[test]
fn every_topic_that_others_use_is_described_with_its_schema() {
    let document = asyncapi();
    let described: BTreeSet<_> = document["channels"]
        .as_object()
        .expect("channels")
        .values()
        .filter_map(|channel| channel["address"].as_str())
        .filter(|address| !address.starts_with('/'))
        .map(str::to_owned)
        .collect();
    let files = std::fs::read_dir(schemas().join("topics")).expect("a folder of topics");
    let topics: BTreeSet<_> = files
        .map(|file| {
            file.expect("a topic").path().file_stem().expect("a name").display().to_string()
        })
        .filter(|name| !name.starts_with("tm."))
        .collect();
    assert_eq!(described, topics);
}
