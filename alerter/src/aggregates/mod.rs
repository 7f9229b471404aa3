//! What happened in each window of time: counts and users by source, type and object, in two steps.
//!
//! No task sees all of a type or a source. The one that watches a partition of unique actions tells
//! in each of its transactions what that added ([`partials`], topic `tm.partials`, keyed by
//! dimensions); the one that owns these dimensions adds up, closes and tells ([`totals`]). Both ends
//! move by Kafka transactions, so every action is in its windows once, whoever dies when. What is
//! told is followed by the [`sinks`].

pub mod dimensions;
pub mod partials;
pub mod sealed;
pub mod sinks;
pub mod summing;
pub mod total;
pub mod totals;
pub mod users;
