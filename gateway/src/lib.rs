//! HTTP in, Kafka out: the daemon that answers once the log has an event.

pub mod app;
pub mod auth;
pub mod budget;
pub mod commands;
pub mod config;
pub mod http;
pub mod metrics;
pub mod publisher;

pub use app::App;
