//! What more than one daemon needs: the event, its identity, and the house around a daemon.

pub mod admin;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod event;
pub mod failpoint;
pub mod kafka;
pub mod keys;
pub mod metrics;
pub mod migrate;
pub mod notification;
pub mod postgres;
pub mod redis;
pub mod service_metrics;
pub mod stats;
pub mod tls;
pub mod topic;
pub mod trace;
