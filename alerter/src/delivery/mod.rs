//! What becomes of a notification: ordinary subscribers of the topic.

pub mod history;
