//! What becomes of what the alerter tells: ordinary subscribers of its topics.

pub mod history;
pub mod subscriber;
