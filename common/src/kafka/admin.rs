//! Topics: created with explicit settings, checked, and told apart from a re-created namesake.

use std::ffi::CString;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::bindings as ffi;
use rdkafka::client::DefaultClientContext;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use uuid::Uuid;

use super::REQUEST_TIMEOUT;
use crate::config::KafkaConfig;
use crate::topic::Topic;

/// The id the cluster gave to a topic when it was created: a re-created topic has another one.
pub type TopicId = Uuid;

/// Makes sure that the topics exist as their files describe them. Existing topics are not altered;
/// one that would silently break the promise is refused.
pub async fn ensure_topics(config: &KafkaConfig, topics: &[&Topic]) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        super::client_config(config).create().context("create a Kafka admin client")?;
    let admin = Arc::new(admin);
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let brokers = broker_count(&admin)
        .await
        .with_context(|| format!("reach Kafka at {}", config.kafka_brokers))?;
    let names: Vec<_> =
        topics.iter().map(|it| format!("{}{}", config.kafka_topic_prefix, it.name)).collect();
    let wanted = topics.iter().zip(&names).map(|(topic, name)| {
        let partitions = topic.partitions.unwrap_or(config.kafka_partitions);
        let replicas = TopicReplication::Fixed(brokers.min(3));
        let new = NewTopic::new(name, partitions, replicas);
        let new = if brokers >= 3 { new.set("min.insync.replicas", "2") } else { new };
        topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
    });
    let wanted: Vec<_> = wanted.collect();
    for created in admin.create_topics(&wanted, &options).await.context("create topics")? {
        match created {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => bail!("create topic {name}: {error}"),
        }
    }
    for (topic, name) in topics.iter().zip(&names) {
        check_settings(&admin, &options, topic, name, brokers).await?;
    }
    Ok(())
}

async fn broker_count(admin: &Arc<AdminClient<DefaultClientContext>>) -> anyhow::Result<i32> {
    let admin = admin.clone();
    let ask = move || admin.inner().fetch_metadata(None, REQUEST_TIMEOUT);
    let metadata = tokio::task::spawn_blocking(ask).await.context("ask for the brokers")??;
    Ok(i32::try_from(metadata.brokers().len())?)
}

/// Refuses a topic whose settings break the promise, and says which setting and what to do.
async fn check_settings(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    topic: &Topic,
    name: &str,
    brokers: i32,
) -> anyhow::Result<()> {
    let Some(resource) = describe(admin, options, name).await? else { return Ok(()) };
    let setting = |key: &str| resource.get(key).and_then(|it| it.value.clone()).unwrap_or_default();
    let wanted = &topic.settings["cleanup.policy"];
    let actual = setting("cleanup.policy");
    if actual.contains("compact") != wanted.contains("compact") {
        bail!(
            "topic {name} has cleanup.policy={actual}, which loses records the counts rest on; \
             set it to {wanted} (kafka-configs --alter) and start again"
        );
    }
    if brokers >= 3 && setting("min.insync.replicas") == "1" {
        bail!(
            "topic {name} has min.insync.replicas=1 on a cluster of {brokers} brokers: an \
             acknowledged event could be lost; set it to 2 and start again"
        );
    }
    if setting("unclean.leader.election.enable") == "true" {
        bail!("topic {name} has unclean.leader.election.enable=true; set it to false");
    }
    Ok(())
}

/// The settings of a topic; none where they may not be read. For a moment after its creation a
/// topic is described as one without settings (tried).
async fn describe(
    admin: &AdminClient<DefaultClientContext>,
    options: &AdminOptions,
    name: &str,
) -> anyhow::Result<Option<ConfigResource>> {
    for _ in 0..30 {
        let described = admin.describe_configs(&[ResourceSpecifier::Topic(name)], options).await?;
        match described.into_iter().next() {
            Some(Ok(resource)) if resource.get("cleanup.policy").is_some() => {
                return Ok(Some(resource));
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Ok(None)
}

/// Asks the cluster for a topic's id.
pub async fn topic_id(config: &KafkaConfig, topic: &str) -> anyhow::Result<TopicId> {
    let admin: AdminClient<DefaultClientContext> = super::client_config(config).create()?;
    let name = CString::new(topic)?;
    tokio::task::spawn_blocking(move || describe_topic_id(&admin, &name))
        .await
        .context("ask for a topic's id")?
        .with_context(|| format!("describe topic {topic}"))
}

/// rdkafka has no wrapper for DescribeTopics: this is the C call, with every object it allocates
/// freed on every way out.
fn describe_topic_id(
    admin: &AdminClient<DefaultClientContext>,
    name: &CString,
) -> anyhow::Result<TopicId> {
    let rk = admin.inner().native_ptr();
    let timeout_ms = i32::try_from(REQUEST_TIMEOUT.as_millis())?;
    // SAFETY: `rk` outlives the call; each pointer below comes from librdkafka, is checked where
    // it may be null, and is used only until its owner is destroyed at the end.
    unsafe {
        let mut names = [name.as_ptr()];
        let topics = ffi::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let queue = ffi::rd_kafka_queue_new(rk);
        ffi::rd_kafka_DescribeTopics(rk, topics, ptr::null(), queue);
        let event = ffi::rd_kafka_queue_poll(queue, timeout_ms);
        let id = if event.is_null() {
            Err(anyhow::anyhow!("no answer within {timeout_ms} ms"))
        } else {
            read_topic_id(event)
        };
        if !event.is_null() {
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_queue_destroy(queue);
        ffi::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// # Safety
/// `event` must be a live event that answers DescribeTopics.
unsafe fn read_topic_id(event: *mut ffi::rd_kafka_event_t) -> anyhow::Result<TopicId> {
    // SAFETY: as the caller promises; the description lives as long as the event.
    unsafe {
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        anyhow::ensure!(!result.is_null(), "an answer to another request");
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        anyhow::ensure!(count == 1, "{count} topics described instead of one");
        let topic = *topics;
        let code = ffi::rd_kafka_error_code(ffi::rd_kafka_TopicDescription_error(topic));
        anyhow::ensure!(code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, "{code:?}");
        let id = ffi::rd_kafka_TopicDescription_topic_id(topic);
        let high = ffi::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let low = ffi::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        Ok(Uuid::from_u64_pair(high, low))
    }
}
