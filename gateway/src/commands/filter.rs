//! What `stats` and `tap` can be narrowed to, by the names that the API has for it.

use clap::Args;

#[derive(Debug, Args)]
pub struct Filter {
    /// Only actions of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only what this user did; of notifications, those about what is theirs.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only what concerns objects of this type.
    #[arg(long, value_name = "TYPE")]
    object_type: Option<String>,
    /// Only what concerns the object of this id.
    #[arg(long, value_name = "ID")]
    object_id: Option<String>,
    /// Only actions from this source.
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,
}

impl Filter {
    /// Query parameters; those without a value are left out of the query.
    pub fn pairs(&self) -> [(&'static str, &Option<String>); 5] {
        [
            ("type", &self.event_type),
            ("userId", &self.user),
            ("objectType", &self.object_type),
            ("objectId", &self.object_id),
            ("source", &self.source),
        ]
    }
}
