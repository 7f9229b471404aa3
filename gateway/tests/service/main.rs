//! The gateway against real Kafka, Postgres and Redis.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod auth;
mod commands;
mod connections;
mod docs;
mod encodings;
mod idempotency;
mod import;
mod imports;
mod installation;
mod issuer;
mod keys;
mod limits;
mod listener;
mod outage;
mod page;
mod pipeline;
mod problems;
mod push;
mod quota;
mod raw;
mod redis;
mod secrecy;
mod shapes;
mod signing;
mod stats;
mod stop;
mod surfaces;
mod tap;
mod tokens;
mod verdicts;
