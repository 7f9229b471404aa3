//! In whose words a record is, by its topic's format and its headers.

use common::event::{Format, Skew, structured_cloud_event};
use common::kafka::Record;

use crate::config::InputFormat;

pub enum Words {
    Of(Format<'static>),
    /// Its attributes are headers; here they are put around its data.
    BinaryCloudEvent(Vec<u8>),
}

pub fn of(record: &Record, format: InputFormat) -> Words {
    // The gateway has rewritten what it took, whatever words it came in.
    if record.headers.text("surface").is_some() {
        return Words::Of(Format::Native);
    }
    match format {
        InputFormat::Native => Words::Of(Format::Native),
        InputFormat::Segment => {
            Words::Of(Format::Segment { call: None, skew: Skew::told_by(None, Skew::TOLERANCE) })
        }
        InputFormat::Auto | InputFormat::CloudEvents if is_binary(record) => {
            Words::BinaryCloudEvent(structured(record))
        }
        InputFormat::CloudEvents => Words::Of(Format::CloudEvent),
        InputFormat::Auto if is_structured(record) => Words::Of(Format::CloudEvent),
        InputFormat::Auto => Words::Of(Format::Auto),
    }
}

fn is_binary(record: &Record) -> bool {
    record.headers.text("ce_specversion").is_some()
}

fn is_structured(record: &Record) -> bool {
    let content_type = record.headers.text("content-type").unwrap_or_default();
    content_type.starts_with("application/cloudevents+json")
}

fn structured(record: &Record) -> Vec<u8> {
    let attributes = record.headers.0.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("ce_")?;
        Some((name, String::from_utf8_lossy(value.as_deref()?)))
    });
    let content_type = record.headers.text("content-type");
    structured_cloud_event(attributes, content_type, record.value.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use common::kafka::Headers;

    use super::*;

    fn record(headers: &[(&str, &str)]) -> Record {
        let mut all = Headers::default();
        headers.iter().for_each(|(name, value)| all.push(name, *value));
        let value = Some(br#"{"userId":"u"}"#.as_slice().into());
        Record { offset: 0, timestamp_ms: 0, key: None, value, headers: all }
    }

    fn words(headers: &[(&str, &str)], format: InputFormat) -> String {
        match of(&record(headers), format) {
            Words::Of(format) => format!("{format:?}"),
            Words::BinaryCloudEvent(text) => String::from_utf8(text).unwrap(),
        }
    }

    #[test]
    fn the_headers_of_a_cloud_event_are_put_around_its_data() {
        let headers = [("ce_specversion", "1.0"), ("ce_id", "a"), ("x", "y")];
        let expected = r#"{"specversion":"1.0","id":"a","data":{"userId":"u"}}"#;
        assert_eq!(words(&headers, InputFormat::Auto), expected);
        assert_eq!(words(&headers, InputFormat::CloudEvents), expected);
        assert_eq!(words(&headers, InputFormat::Native), "Native");
    }

    #[test]
    fn a_content_type_tells_a_structured_one() {
        let headers = [("content-type", "application/cloudevents+json; charset=UTF-8")];
        assert_eq!(words(&headers, InputFormat::Auto), "CloudEvent");
        assert_eq!(words(&[], InputFormat::Auto), "Auto");
        assert_eq!(words(&[], InputFormat::CloudEvents), "CloudEvent");
    }

    #[test]
    fn what_the_gateway_wrote_is_ours_in_every_topic() {
        let headers = [("surface", "segment"), ("ce_specversion", "1.0")];
        for format in [InputFormat::Auto, InputFormat::Segment, InputFormat::CloudEvents] {
            assert_eq!(words(&headers, format), "Native");
        }
    }
}
