//! An event as a row of the table `events` has it.

use tokio_postgres::Row;

use super::{Event, Identity, ObjectRef};

impl Event {
    /// From a row with the columns' names; properties and context as text.
    pub fn of_row(row: &Row) -> Self {
        let text = |name| row.get::<_, &str>(name).into();
        let perhaps = |name| row.get::<_, Option<&str>>(name).map(Into::into);
        Self {
            event_id: text("event_id"),
            event_type: text("event_type"),
            user_id: text("user_id"),
            object: perhaps("object_type")
                .zip(perhaps("object_id"))
                .map(|(object_type, id)| ObjectRef { object_type, id }),
            occurred_at: row.get("occurred_at"),
            source: text("source"),
            session_id: perhaps("session_id"),
            properties: row.get::<_, &str>("properties").into(),
            context: row.get::<_, &str>("context").into(),
            // Its key was told apart when it was judged.
            identity: Identity::EventId,
        }
    }
}
