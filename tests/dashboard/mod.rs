//! What the dashboards are held against.

pub mod expected;
pub mod shape;
pub mod story;
