//! The alerter against real Kafka and Postgres, in topics, a group and a schema of each test's own.

mod history;
mod milestones;
mod spikes;
mod takeover;
mod world;
