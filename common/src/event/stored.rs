//! An event as a row of the table `events` has it.

use tokio_postgres::Row;

use super::{Event, Identity, ObjectRef};

impl Event {
    /// From a row with the columns' names; properties and context as text.
    pub fn of_row(row: &Row) -> Self {
        let object_type: Option<String> = row.get("object_type");
        let object_id: Option<String> = row.get("object_id");
        Self {
            event_id: row.get("event_id"),
            event_type: row.get("event_type"),
            user_id: row.get("user_id"),
            object: object_type
                .zip(object_id)
                .map(|(object_type, id)| ObjectRef { object_type, id }),
            occurred_at: row.get("occurred_at"),
            source: row.get("source"),
            session_id: row.get("session_id"),
            properties: row.get::<_, String>("properties").into_boxed_str(),
            context: row.get::<_, String>("context").into_boxed_str(),
            // Its key was told apart when it was judged.
            identity: Identity::EventId,
        }
    }
}
