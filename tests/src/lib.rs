//! The language of the end-to-end tests: installations, programs, events, load, and what must be exact.

pub mod alerts;
pub mod collector;
pub mod events;
pub mod grafana;
pub mod history;
pub mod installation;
pub mod kafka;
pub mod load;
pub mod lossy;
pub mod postgres;
pub mod program;
pub mod prometheus;
pub mod random;
pub mod redis;
pub mod script;
pub mod send;
pub mod servers;
pub mod state;
pub mod tally;
pub mod unmarked;
pub mod wait;
pub mod windows;

pub use collector::Collector;
pub use events::{Expected, Workload};
pub use installation::Installation;
pub use load::Load;
pub use program::Program;
pub use prometheus::Prometheus;
pub use send::Way;
pub use servers::{PrivateServer, Servers};
pub use wait::eventually;
