//! The topics of CONTRACT, as `schemas/topics/*.yaml` describes them.

use std::sync::LazyLock;

use serde::Deserialize;

/// One topic: who writes and reads it, and the explicit settings it is created with.
#[derive(Debug, Clone, Deserialize)]
pub struct Topic {
    pub name: String,
    pub description: String,
    pub producers: Vec<String>,
    pub consumers: Vec<String>,
    pub key: String,
    pub schema: Option<String>,
    /// Partitions other than the installation's default, where the count is part of the design.
    pub partitions: Option<i32>,
    /// Broker-side settings, as `kafka-configs` names them.
    pub settings: std::collections::BTreeMap<String, String>,
}

macro_rules! topics {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)+) => {
        $(
            $(#[$doc])*
            pub static $name: LazyLock<Topic> = LazyLock::new(|| {
                serde_saphyr::from_str(include_str!(concat!("../../schemas/topics/", $file)))
                    .expect(concat!("schemas/topics/", $file, " is well formed (tested)"))
            });
        )+
        /// Every topic there is.
        pub fn all() -> Vec<&'static Topic> {
            vec![$(&$name),+]
        }
    };
}

topics! {
    /// What users did, as often as it was sent.
    USER_ACTIONS = "user-actions.yaml";
    /// Records that cannot be an event, bytes as they were.
    DEAD_LETTERS = "user-actions.dlq.yaml";
    /// Each action once.
    UNIQUE_ACTIONS = "unique-actions.yaml";
    /// Alerts, each once.
    NOTIFICATIONS = "notifications.yaml";
    /// What each daemon measures.
    SERVICE_METRICS = "service-metrics.yaml";
    /// What the alerter knows of each object.
    ALERTER_STATE = "tm.alerter-state.yaml";
    /// Closed windows.
    AGGREGATES = "action-aggregates.yaml";
    /// The same where nobody outside is to read them.
    AGGREGATES_WITHIN = "tm.aggregates.yaml";
    /// What each transaction of the alerter adds to the windows.
    PARTIALS = "tm.partials.yaml";
    /// Windows that can still be corrected.
    TOTALS = "tm.totals.yaml";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_file_is_well_formed_and_named_after_its_topic() {
        for topic in all() {
            assert!(!topic.producers.is_empty(), "{}", topic.name);
            assert!(topic.settings.contains_key("cleanup.policy"), "{}", topic.name);
        }
        assert_eq!(UNIQUE_ACTIONS.name, "unique-actions");
    }
}
