//! The alerter against real Kafka and Postgres, in topics, a group and a schema of each test's own.

// A test fails by panicking, and so do its helpers.
#![allow(clippy::unwrap_used)]

mod aggregates;
mod history;
mod milestones;
#[cfg(feature = "parquet")]
mod parquet;
mod retention;
mod spikes;
mod takeover;
mod world;
