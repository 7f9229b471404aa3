//! The operator's commands.

pub mod keys;
