//! Fills `user-actions` with events, keyed by their user as the gateway keys them.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use common::kafka::{Delivery, Outgoing, Producer, PublishError};

use crate::events;
use crate::installation::Installation;

/// Deliveries that may be awaited at once.
const WINDOW: usize = 100_000;

/// Sends the events of these numbers, in this order; ends when the broker has them all.
pub async fn preload(to: &Installation, seed: u64, numbers: &[u32]) -> anyhow::Result<()> {
    eprintln!("preloading {} records", numbers.len());
    let linger = Duration::from_millis(20);
    let producer = Producer::connect(&to.kafka(), linger, Duration::from_secs(60), 256 << 10)?;
    let topic = to.topic("user-actions");
    let mut awaited: VecDeque<Delivery> = VecDeque::with_capacity(WINDOW);
    let mut json = String::with_capacity(1_024);
    for n in numbers {
        json.clear();
        let user = events::write(seed, *n, &mut json);
        let record = Outgoing {
            topic: &topic,
            partition: None,
            key: Some(user.as_bytes()),
            value: Some(json.as_bytes()),
            headers: &[],
        };
        loop {
            match producer.publish(&record) {
                Ok(delivery) => break awaited.push_back(delivery),
                Err(PublishError::Full) => oldest(&mut awaited).await?,
                Err(error) => return Err(error.into()),
            }
        }
        if awaited.len() == WINDOW {
            oldest(&mut awaited).await?;
        }
    }
    for delivery in awaited {
        delivery.await?;
    }
    Ok(())
}

async fn oldest(awaited: &mut VecDeque<Delivery>) -> anyhow::Result<()> {
    awaited.pop_front().context("a full queue without a delivery")?.await?;
    Ok(())
}
