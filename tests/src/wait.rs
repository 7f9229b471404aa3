//! Waiting for a thing itself, with a deadline, and never for a length of time.

use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::time::{Instant, sleep, timeout};

/// A wait so long is told, to see where the time goes.
pub const WORTH_TELLING: Duration = Duration::from_secs(5);

/// Looks again and again until what it looks for is there. After the deadline the last reason why
/// it was not becomes the error.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        let looked = timeout(Duration::from_secs(20), look()).await;
        match looked.unwrap_or_else(|_| Err(anyhow!("looking took longer than 20 s"))) {
            Ok(found) => {
                if began.elapsed() > WORTH_TELLING {
                    println!("waited {:.1?} for: {what}", began.elapsed());
                }
                return Ok(found);
            }
            Err(error) if began.elapsed() > within => {
                return Err(error)
                    .with_context(|| format!("waited {} s for: {what}", within.as_secs()));
            }
            Err(_not_yet) => sleep(pause).await,
        }
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}
