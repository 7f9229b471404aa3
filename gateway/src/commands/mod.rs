//! The operator's commands.

mod client;
mod filter;
pub mod import;
pub mod keys;
pub mod stats;
pub mod tap;
