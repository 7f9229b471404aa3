//! The operator's commands.

mod client;
pub mod import;
pub mod keys;
pub mod stats;
pub mod tap;
