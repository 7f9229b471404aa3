//! Kafka Connect's JsonConverter: `{"schema": …, "payload": …}` around the event.

use super::members::Members;

/// The payload, if the text is such an envelope; else the text. Pointers count from the payload.
pub fn payload(text: &str) -> &str {
    let first = text.strip_prefix('{').map(str::trim_start).unwrap_or_default();
    if !first.starts_with("\"schema\"") && !first.starts_with("\"payload\"") {
        return text;
    }
    let Ok(members) = Members::of(text) else { return text };
    let named = |name: &str| members.iter().find(|member| member.name == name);
    match (members.len(), named("schema"), named("payload")) {
        (2, Some(_), Some(payload)) => payload.value.text(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::payload;

    #[test]
    fn an_envelope_gives_its_payload_in_either_order() {
        let event = r#"{"type":"like"}"#;
        assert_eq!(
            payload(&format!(r#"{{"schema":{{"type":"struct"}},"payload":{event}}}"#)),
            event
        );
        assert_eq!(payload(&format!(r#"{{ "payload": {event}, "schema": null }}"#)), event);
    }

    #[test]
    fn an_event_with_members_of_these_names_is_no_envelope() {
        for event in [
            r#"{"schema":1,"payload":{},"type":"like"}"#,
            r#"{"schema":1}"#,
            r#"{"schema":1,"payload":{}"#,
        ] {
            assert_eq!(payload(event), event);
        }
    }
}
