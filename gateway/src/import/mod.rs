//! Files into `user-actions`: read in bounded memory, published in order, resumed where the brokers had it.

mod checkpoint;
pub mod jobs;
mod keeper;
mod lane;
mod parse;
mod plan;
mod progress;
mod rows;
mod run;
mod source;

pub use self::checkpoint::Checkpoint;
pub use self::keeper::{Keeper, Reject};
pub use self::lane::Lane;
pub use self::plan::{Format, FormatName, Plan, PlanError, Settings};
pub use self::progress::{Progress, Snapshot};
pub use self::run::{Ended, Import, ImportError, Sink};
pub use self::source::{Identity, Source};
