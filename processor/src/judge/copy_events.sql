-- Stores the rows of claimed keys; the column order is that of encode.rs.
copy events (event_id, event_type, user_id, object_type, object_id, occurred_at, received_at,
             source, session_id, properties, context, event_key, src, stored_on)
from stdin (format binary)
