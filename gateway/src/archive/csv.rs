//! Events as rows of a table (RFC 4180).

use common::event::Event;
use jiff::Timestamp;

pub const HEAD: &str = "eventId,type,userId,objectType,objectId,occurredAt,receivedAt,source,sessionId,properties,context\r\n";

/// Times are RFC 3339 in UTC with milliseconds; properties and context are JSON.
pub fn write(event: &Event, received_at: Timestamp, out: &mut Vec<u8>) {
    let object = event.object.as_ref();
    let cells = [
        event.event_id.as_str(),
        &event.event_type,
        &event.user_id,
        object.map_or("", |it| &it.object_type),
        object.map_or("", |it| &it.id),
        &format!("{:.3}", event.occurred_at),
        &format!("{received_at:.3}"),
        &event.source,
        event.session_id.as_deref().unwrap_or(""),
        &event.properties,
        &event.context,
    ];
    for (at, cell) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_cell(cell, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_cell(cell: &str, out: &mut Vec<u8>) {
    if !cell.contains(['"', ',', '\r', '\n']) {
        return out.extend_from_slice(cell.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_with_a_comma_a_quote_or_a_new_line_is_quoted() {
        for (cell, written) in
            [("a", "a"), ("a,b", "\"a,b\""), ("{\"a\"}", "\"{\"\"a\"\"}\""), ("1\n2", "\"1\n2\"")]
        {
            let mut out = Vec::new();
            write_cell(cell, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written);
        }
    }
}
