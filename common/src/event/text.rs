//! From bytes to one line of text: size, encoding, and what is evidently no JSON.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::InvalidEvent;

const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The text without line breaks: what is kept of it ends up in streams of one JSON text per line.
pub fn read(bytes: &[u8], bytes_max: usize) -> Result<Cow<'_, str>, InvalidEvent> {
    if bytes.len() > bytes_max {
        return Err(InvalidEvent::TooLarge { bytes: bytes.len(), bytes_max });
    }
    if bytes.len() >= 5 && bytes[0] == 0 {
        return Err(InvalidEvent::SchemaRegistryUnsupported);
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| InvalidEvent::InvalidUtf8 { at: error.valid_up_to() })?;
    let text = trimmed(text);
    if text.is_empty() {
        return Err(InvalidEvent::Empty);
    }
    if memchr::memchr2(b'\n', b'\r', text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    must_be_json(text)?; // While the line numbers in its message still fit what was sent.
    Ok(Cow::Owned(minified(text)))
}

/// Without the byte order mark and the whitespace around it.
pub fn trimmed(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text).trim_matches(WHITESPACE)
}

pub fn must_be_json(text: &str) -> Result<(), InvalidEvent> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(InvalidEvent::InvalidJson { reason: error.to_string() }),
    }
}

/// Leaves out the whitespace outside strings; `text` is JSON.
fn minified(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    text.chars()
        .filter(|&char| {
            if escaped {
                escaped = false;
            } else if char == '"' {
                in_string = !in_string;
            } else if char == '\\' {
                escaped = true;
            }
            in_string || !WHITESPACE.contains(&char)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_on_one_line_is_not_copied() {
        assert!(matches!(read(b" {\"a\": 1}\r\n", 100), Ok(Cow::Borrowed("{\"a\": 1}"))));
    }

    #[test]
    fn line_breaks_between_members_go_and_strings_stay_as_they_are() {
        let text = read("{\n  \"a b\": \"x \\\" y\",\r\n\t\"c\": [1, 2]\n}".as_bytes(), 100);
        assert_eq!(text.unwrap(), r#"{"a b":"x \" y","c":[1,2]}"#);
    }

    #[test]
    fn broken_json_over_several_lines_is_reported_where_it_breaks() {
        let Err(InvalidEvent::InvalidJson { reason }) = read(b"{\n\"a\": 1,\n}", 100) else {
            panic!("taken")
        };
        assert!(reason.ends_with("at line 3 column 1"), "{reason}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_event() {
        assert_eq!(read(b"\xef\xbb\xbf{}", 100).unwrap(), "{}");
    }

    #[test]
    fn the_prefix_of_a_schema_registry_is_named_as_such() {
        let read = read(b"\0\0\0\0\x07{\"type\":\"like\"}", 100);
        assert_eq!(read, Err(InvalidEvent::SchemaRegistryUnsupported));
    }

    #[test]
    fn the_limit_itself_is_still_taken() {
        assert!(read(b"{   }", 5).is_ok());
        let refused = InvalidEvent::TooLarge { bytes: 5, bytes_max: 4 };
        assert_eq!(read(b"{   }", 4), Err(refused));
    }
}
