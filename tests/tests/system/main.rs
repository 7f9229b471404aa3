//! Everything together on real servers, as its users have it: one program, for linking each file would take longer
//! than running it.

mod clients;
mod dashboards;
mod descriptions;
mod faults;
mod flow;
mod page;
#[cfg(feature = "parquet")]
mod parquet;
mod statistics;
