//! The operator's commands.

pub mod import;
pub mod keys;
pub mod stats;
pub mod tap;
