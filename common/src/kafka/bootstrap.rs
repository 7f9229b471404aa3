//! Tells a client its first brokers again: librdkafka can forget every broker it knew, for good.
//!
//! Seen with 2.12.1 and a cluster that was down as a whole: a broker that shuts down may answer with
//! a list of no brokers, which removes all; the re-bootstrap that would mend it was scheduled when
//! the last connection broke, and is cancelled by that very answer (`rd_kafka_rebootstrap_tmr_stop`
//! leaves `rk_rebootstrap_in_progress` set, so no other is ever scheduled). What is added from
//! outside is not subject to that.

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as ffi;
use rdkafka::client::{Client, ClientContext};
use tokio::time::Instant;

/// The brokers that a client was configured with, and when it is to hear of them again.
pub(super) struct Bootstrap {
    brokers: CString,
    due: Option<Instant>,
}

impl Bootstrap {
    /// Long enough for the answer that empties the list to have come; each reminder stays in
    /// librdkafka's memory, a hundred bytes or so.
    const AFTER: Duration = Duration::from_secs(5);

    pub fn new(brokers: &str) -> Self {
        // librdkafka has refused an address with a NUL before.
        Self { brokers: CString::new(brokers).unwrap_or_default(), due: None }
    }

    /// The client has lost its last broker, or cannot reach one.
    pub fn lost(&mut self) {
        self.due.get_or_insert_with(|| Instant::now() + Self::AFTER);
    }

    /// Waits until a lost client is to be told its brokers; for ever when nothing is lost.
    pub async fn due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Tells the client its brokers if that is due.
    pub fn remind<C: ClientContext>(&mut self, client: &Client<C>) {
        if self.due.take_if(|due| *due <= Instant::now()).is_some() {
            // SAFETY: the client is borrowed and lives; the list is copied.
            unsafe { ffi::rd_kafka_brokers_add(client.native_ptr(), self.brokers.as_ptr()) };
        }
    }
}
