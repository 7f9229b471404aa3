//! What holds of every event, whatever its form.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;

pub fn now() -> Timestamp {
    "2026-11-21T10:00:00.123456Z".parse().unwrap()
}

pub fn read(text: impl AsRef<[u8]>) -> Result<Event, InvalidEvent> {
    let bytes_max = EVENT_BYTES_MAX + REWRITE_BYTES_MAX;
    let arrival = Arrival { received_at: now(), now: now(), source: "http", user: None, bytes_max };
    parse(text.as_ref(), &arrival, || "unnamed-1".into())
}

fn at_the_door() -> Arrival<'static> {
    Arrival {
        received_at: now(),
        now: now(),
        source: "http",
        user: None,
        bytes_max: EVENT_BYTES_MAX,
    }
}

/// The event of a text that must be one.
pub fn event(text: impl AsRef<[u8]>) -> Event {
    read(&text)
        .unwrap_or_else(|invalid| panic!("{invalid:?}: {}", String::from_utf8_lossy(text.as_ref())))
}

/// Code and pointer of a text that must not be one.
pub fn refusal(text: impl AsRef<[u8]>) -> (&'static str, String) {
    let invalid = read(text).unwrap_err();
    (invalid.code(), invalid.pointer())
}

pub fn canonical(event: &Event) -> String {
    let mut out = Vec::new();
    event.write_json(None, &mut out);
    String::from_utf8(out).unwrap()
}

fn must_survive(text: &str) {
    let event = event(text);
    let written = canonical(&event);
    let elsewhere = Arrival {
        received_at: now() + jiff::SignedDuration::from_mins(5),
        now: now() + jiff::SignedDuration::from_mins(5),
        source: "kafka",
        user: None,
        bytes_max: EVENT_BYTES_MAX + REWRITE_BYTES_MAX,
    };
    let again = parse(written.as_bytes(), &elsewhere, || panic!("{written} lost its id"));
    assert_eq!(again.as_ref(), Ok(&event), "{text} became {written}");
    let mut unique = Vec::new();
    event.write_json(Some(now()), &mut unique);
    let again = parse(&unique, &elsewhere, || panic!("{written} lost its id"));
    assert_eq!(again.as_ref(), Ok(&event), "{text} became {written}");
}

#[test]
fn an_event_in_the_words_of_others_is_the_same_in_ours() {
    let skew = Skew::told_by(Some("\"2020-01-01T00:00:10Z\""), Skew::TOLERANCE);
    let segment = Format::Segment { call: None, skew };
    let ce = r#"{"specversion":"1.0","id":"a","source":"/s","type":"t""#;
    for (format, text) in [
        (segment, r#"{"type":"track","event":"e","userId":1,"messageId":"m","timestamp":"2020-01-01","properties":{"postId":"p","type":"x","a\u0062":1,"ab":2},"context":{"source":"y","eventId":3},"channel":"server"}"#.to_owned()),
        (segment, r#"{"type":"identify","anonymousId":"a","traits":{"objectType":"t"}}"#.to_owned()),
        (Format::PostHog(skew), r#"{"event":"e","distinct_id":"u","uuid":"0190AAAA-0000-7000-8000-000000000000","offset":5,"$set":{"a":1},"properties":{"$groups":{"c":"d"},"sku":7}}"#.to_owned()),
        (Format::Amplitude(skew), r#"{"event_type":"e","device_id":"d","time":1577836800000,"session_id":5,"event_properties":{"eventId":"x"},"groups":{"a":["b"]}}"#.to_owned()),
        (Format::CloudEvent, format!(r#"{ce},"subject":"post/5/6","data":{{"userId":"u","userid":"v"}}}}"#)),
        (Format::CloudEvent, format!(r#"{ce},"userid":"u","subject":"/5","data":[1,2]}}"#)),
        (Format::Auto, format!(r#"{ce},"userid":"u","data_base64":"/w==","time":"2020-01-01T00:00:00Z"}}"#)),
    ] {
        let bytes_max = EVENT_BYTES_MAX;
        let arrival =
            Arrival { received_at: now(), now: now(), source: "http", user: None, bytes_max };
        let mut event = parse_as(format, text.as_bytes(), &arrival, || "unnamed-1".into())
            .unwrap_or_else(|invalid| panic!("{invalid:?}: {text}"));
        let is_cloud_event = text.starts_with(ce);
        assert_eq!(event.identity == Identity::SourceAndId, is_cloud_event, "{text}");
        event.identity = Identity::EventId; // A header tells, not the canonical form.
        assert_eq!(read(canonical(&event)).as_ref(), Ok(&event), "{text}");
    }
}

#[test]
fn an_event_shares_with_its_bytes_what_it_takes_as_it_is_if_that_is_most_of_them() {
    let shares = |text: &str| {
        let bytes_max = EVENT_BYTES_MAX;
        let arrival =
            Arrival { received_at: now(), now: now(), source: "http", user: None, bytes_max };
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let shared = parse_shared(Format::Auto, &bytes, &arrival, || "unnamed-1".into()).unwrap();
        assert_eq!(shared, event(text));
        bytes.as_ptr_range().contains(&shared.properties.as_ptr())
    };
    let flat = r#"{"event_name":"view","client_id":"c","product_id":1}"#;
    assert!(shares(flat));
    assert!(shares(&format!(" {flat}\n")));
    assert!(shares(&format!(r#"{{"type":"t","userId":"u","properties":{flat}}}"#)));
    assert!(!shares(&format!(r#"{{"type":"t","userId":"u","properties":{{}},"context":{flat}}}"#)));
    assert!(!shares(&flat.replace(':', ":\n")));
    assert!(!shares(&flat.replace("product_id", "api_key")));
}

#[test]
fn an_attribute_that_a_cloud_event_lacks_is_named() {
    let refusal = |text: &str| {
        let bytes_max = EVENT_BYTES_MAX;
        let arrival =
            Arrival { received_at: now(), now: now(), source: "http", user: None, bytes_max };
        let read = parse_as(Format::CloudEvent, text.as_bytes(), &arrival, String::new);
        read.unwrap_err().pointer()
    };
    assert_eq!(
        refusal(r#"{"specversion":"1.0","id":"a","type":"t","data":{"userId":"u"}}"#),
        "/source"
    );
    assert_eq!(
        refusal(r#"{"specversion":"1.0","source":"/s","type":"t","data":{"userId":"u"}}"#),
        "/id"
    );
    assert_eq!(
        refusal(r#"{"id":"a","source":"/s","type":"t","data":{"userId":"u"}}"#),
        "/specversion"
    );
}

#[test]
fn the_three_member_like_is_a_complete_event() {
    let like = event(r#"{"userId":"u1","postId":"123","type":"like"}"#);
    let expected = Event {
        event_id: "unnamed-1".into(),
        event_type: "like".into(),
        user_id: "u1".into(),
        object: Some(ObjectRef { object_type: "post".into(), id: "123".into() }),
        occurred_at: "2026-11-21T10:00:00.123Z".parse().unwrap(),
        source: "http".into(),
        session_id: None,
        properties: "{}".into(),
        context: "{}".into(),
        identity: Identity::EventId,
    };
    assert_eq!(like, expected);
}

#[test]
fn the_canonical_form_has_its_members_in_the_order_of_the_contract() {
    let text = r#"{"type":"like","user_id":7,"post_id":"1","sid":"s","ts":1795255200,"a":"b"}"#;
    let mut out = Vec::new();
    Event { event_id: "e".into(), ..event(text) }.write_json(Some(now()), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"{"eventId":"e","type":"like","userId":"7","objectType":"post","objectId":"1","#,
            r#""occurredAt":"2026-11-21T10:00:00.000Z","receivedAt":"2026-11-21T10:00:00.123Z","#,
            r#""source":"http","sessionId":"s","properties":{"a":"b"},"context":{}}"#
        )
    );
}

#[test]
fn the_canonical_form_is_read_as_the_same_event() {
    for text in [
        r#"{"userId":"u1","postId":"123","type":"like"}"#,
        r#"{"userId":"u1","type":"like","properties":{"event_name":"x","client_id":"c","postId":5}}"#,
        r#"{"userId":"u1","type":"like","event_name":"view","content_id":null,"objectType":"post"}"#,
        r#"{"event_name":"view","client_id":"c","product_id":"p","eventId":"e","source":"s","context":1}"#,
        r#"{"event_name":"view","content_id":1,"userId":true,"properties":{"a":[1, 2]},"ts":"soon"}"#,
        r#"{"event_name":"view","client_id":"c","sku":"1"}"#,
        r#"{"type":"a\"\\\n\u0001é","userId":"\ud83d\ude00","k\"\ud83d\ude00":{"k\u0061":1,"ka":2}}"#,
        "{\"type\":\"like\",\n\"userId\":\"u1\",\n\"properties\":{\"a\" : 1}\n}",
        r#"{"type":"like","userId":"u1","receivedAt":"never","properties":{"receivedAt":1}}"#,
        r#"{"type":"like","userId":"u1","objectId":1,"properties":{"objectType":"video"}}"#,
        r#"{"schema":{},"payload":{"type":"like","userId":"u1","time":1795255200.9999}}"#,
    ] {
        must_survive(text);
    }
}

#[test]
fn an_event_may_nest_as_deep_as_the_contract_says_and_its_canonical_form_one_deeper() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    must_survive(&format!(r#"{{"type":"like","userId":"u","a":{}}}"#, nested(31)));
    must_survive(&format!(r#"{{"type":"like","userId":"u","properties":{{"a":{}}}}}"#, nested(30)));
    must_survive(&format!(r#"{{"event_name":"v","client_id":"u","a":{}}}"#, nested(31)));
    must_survive(&format!(
        r#"{{"schema":0,"payload":{{"type":"v","userId":"u","a":{}}}}}"#,
        nested(31)
    ));
    for deep in [
        format!(r#"{{"type":"like","userId":"u","a":{}}}"#, nested(32)),
        format!(r#"{{"type":"like","userId":"u","properties":{{"a":{}}}}}"#, nested(31)),
        format!(r#"{{"event_name":"v","client_id":"u","a":{}}}"#, nested(32)),
        format!(r#"{{"type":"like","userId":"u","a":{}}}"#, nested(1_000)),
        nested(1_000),
    ] {
        assert_eq!(refusal(deep), ("too_deep", String::new()));
    }
}

#[test]
fn what_is_no_event_at_all_is_named() {
    for (bytes, code) in [
        (&b""[..], "empty"),
        (b" \r\n", "empty"),
        (b"hello", "invalid_json"),
        (b"{\"type\":\"like\",}", "invalid_json"),
        (b"{\"type\":\"like\"} {}", "invalid_json"),
        (b"{\"type\":\"l\xffke\"}", "invalid_utf8"),
        (b"null", "not_an_object"),
        (b"[{\"type\":\"like\"}]", "not_an_object"),
        (b"\"like\"", "not_an_object"),
        (b"\0\0\0\0\x01{}", "schema_registry_unsupported"),
        (b"\0\0\0", "invalid_json"),
        (b"{\"schema\":{},\"payload\":null}", "not_an_object"),
    ] {
        assert_eq!(refusal(bytes), (code, String::new()), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn what_is_no_event_is_known_by_the_id_it_was_sent_under() {
    let posthog = Format::PostHog(Skew::told_by(None, Skew::TOLERANCE));
    for (format, sent, id) in [
        (Format::Auto, r#"{"id":5,"eventId":"e-1"}"#, Some("e-1")),
        (Format::Auto, r#"{"eventId":"","message_id":"e-\u0031","type":[[]]}"#, Some("e-1")),
        (Format::Auto, r#"{"eventId":12}"#, Some("12")),
        (posthog, r#"{"messageId":"m","uuid":"u"}"#, Some("u")),
        (posthog, r#"{"messageId":"m"}"#, None),
        (Format::Auto, r#"{"eventId":{}}"#, None),
        (Format::Auto, r#"{"type":"like"}"#, None),
        (Format::Auto, "[]", None),
        (Format::Auto, "no json", None),
    ] {
        assert_eq!(given_id(format, sent.as_bytes()).as_deref(), id, "{sent}");
    }
}

#[test]
fn what_is_kept_of_a_refused_event_has_no_credential_in_it() {
    let posthog = Format::PostHog(Skew::told_by(None, Skew::TOLERANCE));
    for (sent, kept) in [
        (r#"{"api_key":"s","a":1}"#, r#"{"api_key":"","a":1}"#),
        ("\u{feff} \n{\"token\": \"s\" } ", "\u{feff} \n{\"token\": \"\" } "),
        (
            r#"{"properties":{"token":"s"},"properties":{"n":[1],"token":"s"},"apiKey":1}"#,
            r#"{"properties":{"token":""},"properties":{"n":[1],"token":""},"apiKey":""}"#,
        ),
        (r#"["s"]"#, r#"["s"]"#),
        ("{", "{"),
    ] {
        let found = blank_credentials(posthog, sent.as_bytes());
        assert_eq!(std::str::from_utf8(&found).unwrap(), kept);
    }
    let others = br#"{"token":"no secret of Segment's","writeKey":"s"}"#;
    let segment = Format::Segment { call: None, skew: Skew::told_by(None, Skew::TOLERANCE) };
    let found = blank_credentials(segment, others);
    assert_eq!(&*found, br#"{"token":"no secret of Segment's","writeKey":""}"#);
}

#[test]
fn what_a_call_does_not_usually_have_is_kept_too() {
    let skew = Skew::told_by(None, Skew::TOLERANCE);
    let arrival = at_the_door();
    let read = |format, text: &str| {
        parse_as(format, text.as_bytes(), &arrival, || "unnamed-1".into()).unwrap()
    };
    let call = |kind: &str| {
        let text = format!(
            r#"{{"type":"{kind}","event":"e","userId":"u","traits":{{"t":1}},"properties":{{"p":2}}}}"#
        );
        let event = read(Format::Segment { call: None, skew }, &text);
        (value(&event.properties), value(&event.context))
    };
    assert_eq!(call("track"), (json!({"p": 2}), json!({"traits": {"t": 1}})));
    assert_eq!(call("identify"), (json!({"t": 1}), json!({"properties": {"p": 2}})));

    let subject = "x".repeat(ID_BYTES_MAX + 1);
    for subject in [subject.clone(), format!("post/{subject}")] {
        let text = json!({
            "specversion": "1.0", "id": "a", "source": "/s", "type": "t", "subject": subject,
            "data": {"userId": "u"},
        });
        let event = read(Format::CloudEvent, &text.to_string());
        assert_eq!((event.object, &value(&event.context)["subject"]), (None, &json!(subject)));
    }

    let text = r#"{"event":"e","distinct_id":"u","a":1,"properties":{"token":"s","a":null}}"#;
    let event = read(Format::PostHog(skew), text);
    assert_eq!(&*event.properties, r#"{"a":null}"#);
}

#[test]
fn one_byte_more_than_the_limit_is_refused() {
    let arrival = at_the_door();
    let sized = |bytes: usize| {
        let event = r#"{"type":"like","userId":"u","a":""}"#;
        event.replace(r#""""#, &format!(r#""{}""#, "x".repeat(bytes - event.len())))
    };
    assert!(parse(sized(EVENT_BYTES_MAX).as_bytes(), &arrival, String::new).is_ok());
    let refused = parse(sized(EVENT_BYTES_MAX + 1).as_bytes(), &arrival, String::new).unwrap_err();
    assert_eq!(refused.code(), "too_large");
}

#[test]
fn the_canonical_form_is_never_longer_than_the_reader_behind_the_gateway_takes() {
    let long = "\\u0001".repeat(256);
    let short = "\\u0001".repeat(128);
    let text = format!(
        r#"{{"event_name":"{short}","content_id":"{long}","userId":"{long}","sid":"{long}","source":"{short}","eventId":"{long}"}}"#
    );
    assert!(canonical(&event(&text)).len() <= text.len() + REWRITE_BYTES_MAX);
    must_survive(&text);
}

#[test]
fn of_a_repeated_key_the_last_stays_at_every_level() {
    let event = event(concat!(
        r#"{"type":"view","type":"like","userId":"u","userId":"v","a":1,"\u0061":2,"#,
        r#""properties":{"b":{"c":1,"c":[{"d":1,"d":2}]},"b2":0,"b2":"x"},"context":{"e":1,"e":{}}}"#
    ));
    assert_eq!((&*event.event_type, &*event.user_id), ("like", "v"));
    assert_eq!(&*event.properties, r#"{"a":2,"b":{"c":[{"d":2}]},"b2":"x"}"#);
    assert_eq!(&*event.context, r#"{"e":{}}"#);
}

#[test]
fn a_repeated_key_whose_last_value_is_null_is_absent() {
    assert_eq!(refusal(r#"{"type":"like","userId":"u","userId":null}"#).0, "missing_user");
}

#[test]
fn a_time_of_arrival_that_cannot_be_is_no_time_of_the_event() {
    let received_at = now() + jiff::SignedDuration::from_hours(25);
    let arrival = Arrival {
        received_at,
        now: now(),
        source: "kafka",
        user: None,
        bytes_max: EVENT_BYTES_MAX,
    };
    let refused = parse(br#"{"type":"like","userId":"u"}"#, &arrival, String::new).unwrap_err();
    assert_eq!(refused, InvalidEvent::TimeOutOfRange { pointer: String::new() });
}

#[test]
fn the_owner_is_read_from_the_properties() {
    let owner = |properties: &str| {
        let text = format!(r#"{{"type":"like","userId":"u","properties":{properties}}}"#);
        event(text).owner_id()
    };
    assert_eq!(owner(r#"{"ownerId":"a\u00e9"}"#).as_deref(), Some("aé"));
    assert_eq!(owner(r#"{"ownerId":null,"owner_id":7}"#).as_deref(), Some("7"));
    for none in [r#"{"ownerId":""}"#, r#"{"ownerId":{}}"#, r#"{"owner":"x"}"#, "{}"] {
        assert_eq!(owner(none), None, "{none}");
    }
}

#[test]
fn every_reason_has_its_own_code() {
    let codes = std::collections::HashSet::from(InvalidEvent::ALL_CODES);
    assert_eq!(codes.len(), InvalidEvent::ALL_CODES.len());
    assert!(codes.contains(InvalidEvent::NullValue.code()));
}

/// JSON of any shape, with the names that mean something to the parser more often than others.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("\"\"".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (1_795_000_000_000_i64..1_795_255_200_000).prop_map(|ms| ms.to_string()),
        any::<f64>().prop_map(|number| json!(number).to_string()),
        Just("\"2026-11-20 01:02:03.4567\"".to_owned()),
        ".{0,12}".prop_map(|text| json!(text).to_string()),
        "(\\\\u[0-9a-f]{4}){1,3}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            object(inner),
        ]
    })
}

fn object(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    vec((any_name(), value), 0..6).prop_map(|members| {
        let members = members.iter().map(|(name, value)| format!("{name}:{value}"));
        format!("{{{}}}", members.collect::<Vec<_>>().join(" , \n"))
    })
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => proptest::sample::select(vec![
            "eventId", "id", "type", "event_name", "name", "userId", "client_id", "postId", "sku",
            "objectId", "objectType", "content_id", "product_id", "occurredAt", "event_datetime",
            "ts", "sid", "session_id", "source", "properties", "context", "receivedAt", "api_key",
            "r", "schema", "payload",
        ]).prop_map(|name| json!(name).to_string()),
        1 => ".{0,3}".prop_map(|name| json!(name).to_string()),
        1 => "[a-c]".prop_map(|name| format!("\"\\u{:04x}\"", u32::from(name.as_bytes()[0]))),
    ]
}

/// An object that is an event unless one of its other members prevents it.
fn any_event() -> impl Strategy<Value = String> {
    let required = prop_oneof![
        Just(r#""type":"like","userId":"u""#),
        Just(r#""event_name":"view","client_id":"c""#),
        Just(r#""event_name":"view","content_id":1,"userId":"u""#),
    ];
    let member = (any_name(), any_json()).prop_map(|(name, value)| format!("{name}:{value}"));
    let given = object(any_json()).prop_map(|given| format!(r#""properties":{given}"#));
    let others = vec(prop_oneof![3 => member, 1 => given], 0..6);
    (others, required).prop_map(|(mut members, required)| {
        members.push(required.to_owned());
        format!("{{{}}}", members.join(","))
    })
}

/// As Postgres and JSON readers see it: the order of members is nothing, the last of a name counts.
fn value(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = lint::check(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_text_of_json_characters_panics(text in r#"[\[\]{}:,"\\u0-9a-fA-Fntre+.\- ]{0,60}"#) {
        let _ = read(&text);
        let _ = read(format!(r#"{{"type":"like","userId":"u","a":{text}}}"#));
    }

    #[test]
    fn every_event_survives_its_canonical_form(text in any_event()) {
        if read(&text).is_ok() {
            must_survive(&text);
        }
    }

    #[test]
    fn what_is_kept_is_on_one_line_and_holds_each_key_once(text in any_event()) {
        if let Ok(event) = read(&text) {
            let written = canonical(&event);
            prop_assert!(!written.contains(['\n', '\r']));
            prop_assert!(!lint::check(&written).unwrap().may_repeat || written.contains("\\"), "{}", written);
            prop_assert_eq!(members::each_key_once(&written, &lint::Shape { depth: 1, may_repeat: true })
                .map(|text| value(&text)), Ok(value(&written)));
        }
    }

    #[test]
    fn a_flat_event_keeps_all_its_members(text in any_event()) {
        let Ok(event) = read(&text) else { return Ok(()) };
        let mut sent = value(&text);
        let is = |name: &str| !matches!(&sent[name], v if v.is_null() || v == "");
        if is("event_name") && (is("client_id") || is("content_id") && is("userId")) {
            sent.as_object_mut().unwrap().remove("api_key");
            prop_assert_eq!(value(&event.properties), sent);
        }
    }
}

#[test]
fn an_event_that_names_nobody_is_of_the_user_who_sent_it() {
    let arrival = Arrival {
        received_at: now(),
        now: now(),
        source: "http",
        user: Some("me"),
        bytes_max: EVENT_BYTES_MAX,
    };
    let user_of = |text: &str| parse(text.as_bytes(), &arrival, String::new).unwrap().user_id;
    assert_eq!(user_of(r#"{"type":"like"}"#), "me");
    assert_eq!(user_of(r#"{"type":"like","userId":null}"#), "me");
    assert_eq!(user_of(r#"{"type":"like","client_id":"you"}"#), "you");
}
