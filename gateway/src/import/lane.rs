//! How fast an import may publish: a share of the publisher's window, so that live events keep the rest.

use std::time::Duration;

use common::event::Event;
use common::kafka::{Delivery, Headers, PublishError};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::publisher::{Origin, Publisher, RECORD_OVERHEAD_BYTES};

/// What asks for a turn at once: little, so that whoever waits behind it waits shortly.
pub const TURN_BYTES: usize = 128 << 10;

/// librdkafka's queue is full of live events: it moves within milliseconds.
const FULL_PAUSE: Duration = Duration::from_millis(5);

pub struct Lane<'a> {
    publisher: &'a Publisher,
    share: Semaphore,
    share_bytes: usize,
    origin: Origin,
}

/// Given back when the brokers have what was published under it.
pub struct Turn<'a> {
    _share: SemaphorePermit<'a>,
    _window: SemaphorePermit<'a>,
}

impl<'a> Lane<'a> {
    pub fn new(publisher: &'a Publisher, share_bytes: usize) -> Self {
        let origin = Origin { surface: "import", headers: Headers::default() };
        Self { publisher, share: Semaphore::new(share_bytes), share_bytes, origin }
    }

    /// What an event takes of a turn.
    pub fn cost(canonical_bytes: usize) -> usize {
        canonical_bytes + RECORD_OVERHEAD_BYTES
    }

    pub async fn turn(&self, events: usize, bytes: usize) -> Turn<'_> {
        let wanted = (bytes + events * RECORD_OVERHEAD_BYTES).min(self.share_bytes);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let share = self.share.acquire_many(wanted).await.expect("the semaphore is never closed");
        Turn { _share: share, _window: self.publisher.turn(events, bytes).await }
    }

    pub async fn publish(&self, event: &Event, canonical: &[u8]) -> Result<Delivery, PublishError> {
        loop {
            match self.publisher.publish(event, canonical, &self.origin) {
                Err(PublishError::Full) => tokio::time::sleep(FULL_PAUSE).await,
                queued => return queued,
            }
        }
    }

    pub async fn delivered(&self, delivery: Delivery) -> Result<(), PublishError> {
        self.publisher.delivered(delivery).await
    }

    pub fn topic(&self) -> &str {
        self.publisher.topic()
    }
}
