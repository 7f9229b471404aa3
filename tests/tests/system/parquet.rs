//! Windows as Parquet in a store that speaks S3, read by somebody else: each record of the topic once.

use tests::Installation;
use tests::random::seed;

use crate::faults::{alerter_dies_at, all_hold, random_kills};

const KILL_POINTS: [&str; 3] = [
    "aggregates_parquet_before_put:1",
    "aggregates_parquet_before_put:3",
    "aggregates_parquet_after_put:2",
];

async fn installation() -> anyhow::Result<Installation> {
    let mut tallyman = Installation::new().await?;
    tallyman.set_parquet();
    Ok(tallyman)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_alerter_may_die_around_each_put() -> anyhow::Result<()> {
    let seed = seed("the_alerter_may_die_around_each_put");
    let dies = async |point| alerter_dies_at(installation().await?, point, seed).await;
    all_hold(KILL_POINTS.map(|point| (point, dies(point)))).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn alerters_may_die_at_any_moment_under_load() -> anyhow::Result<()> {
    let seed = seed("alerters_may_die_at_any_moment_under_load");
    random_kills(installation().await?, seed, 5, 600).await
}
