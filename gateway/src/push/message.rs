//! One message as both kinds of sockets write it, made once for all of them.

use bytes::Bytes;
use serde::Serialize;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// Cheap to clone: one piece of memory, however many sockets send it.
#[derive(Debug, Clone)]
pub struct Message {
    /// As Server-Sent Events have it: `id`, `data`, and an empty line.
    pub sse: Bytes,
    /// The JSON object alone, as a WebSocket sends it.
    pub text: Utf8Bytes,
    /// Bytes of it before the cursor.
    open: usize,
}

impl Message {
    /// `open_json` is an object on one line without its last brace.
    pub fn new(open_json: &[u8], cursor: &str) -> Self {
        let comma = if open_json == b"{" { "" } else { "," };
        let cursor_member = format!("{comma}\"cursor\":\"{cursor}\"}}");
        let mut sse = Vec::with_capacity(open_json.len() + cursor.len() + cursor_member.len() + 16);
        for part in [b"id: ", cursor.as_bytes(), b"\ndata: ", open_json, cursor_member.as_bytes()] {
            sse.extend_from_slice(part);
        }
        let data = sse.len() - open_json.len() - cursor_member.len()..sse.len();
        sse.extend_from_slice(b"\n\n");
        let sse = Bytes::from(sse);
        // What JSON is not UTF-8 has been refused; a text that is not would end its sockets.
        let text = Utf8Bytes::try_from(sse.slice(data)).unwrap_or_default();
        Self { sse, text, open: open_json.len() }
    }

    /// The same under another cursor.
    pub fn under(&self, cursor: &str) -> Self {
        Self::new(&self.text.as_bytes()[..self.open], cursor)
    }

    /// Says something about the stream itself.
    pub fn control(control: &Control, cursor: &str) -> Self {
        let mut json = serde_json::to_vec(control).expect("names and numbers are JSON");
        json.pop();
        Self::new(&json, cursor)
    }

    pub fn size(&self) -> usize {
        self.sse.len()
    }
}

/// What is said about the stream itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// The reader was too slow; so many messages went by, and the socket ends. Its cursor resumes
    /// before them.
    Lagged { missed: u64 },
    /// What the cursor stands for is no longer there; the stream goes on from the oldest.
    Expired { reason: Expiry, detail: &'static str },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// The topic has forgotten what came next.
    Retention,
    /// The topic is another one than the cursor's.
    Recreated,
}

impl Control {
    pub fn expired(reason: Expiry) -> Self {
        let detail = match reason {
            Expiry::Retention => {
                "the topic no longer holds what followed the cursor; messages were missed"
            }
            Expiry::Recreated => {
                "the topic was created anew since the cursor; messages may have been missed"
            }
        };
        Self::Expired { reason, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_object_and_its_cursor() {
        let message = Message::new(br#"{"a":{}"#, "c1");
        assert_eq!(message.text.as_str(), r#"{"a":{},"cursor":"c1"}"#);
        assert_eq!(message.sse, "id: c1\ndata: {\"a\":{},\"cursor\":\"c1\"}\n\n");
        assert_eq!(message.under("c2").text.as_str(), r#"{"a":{},"cursor":"c2"}"#);
        assert_eq!(Message::new(b"{", "c").text.as_str(), r#"{"cursor":"c"}"#);
    }

    #[test]
    fn a_control_message_names_itself() {
        let lagged = Message::control(&Control::Lagged { missed: 3 }, "c");
        assert_eq!(lagged.text.as_str(), r#"{"control":"lagged","missed":3,"cursor":"c"}"#);
        let expired = Message::control(&Control::expired(Expiry::Retention), "c");
        let told = r#"{"control":"expired","reason":"retention","#;
        assert!(expired.text.starts_with(told), "{}", expired.text);
    }
}
