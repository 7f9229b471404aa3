//! Opens a Redis client from its configuration, nothing more.

use std::time::Duration;

use anyhow::Context;
use fred::prelude::{Builder, Client, Config, ReconnectPolicy};

use crate::config::RedisConfig;

/// A client that connects in the background and reconnects for ever; a command fails at once
/// while there is no connection: whoever uses it has a way to go on without.
pub fn client(config: &RedisConfig) -> anyhow::Result<Client> {
    let mut redis = Config::from_url(config.redis_url.reveal())
        .context("REDIS_URL must look like redis://user:password@host:6379/0")?;
    // A server that is away at the start is like one that goes away later.
    redis.fail_fast = false;
    Builder::from_config(redis)
        .with_performance_config(|performance| {
            performance.default_command_timeout = Duration::from_secs(5);
        })
        .with_connection_config(|connection| {
            connection.connection_timeout = Duration::from_secs(2);
            connection.internal_command_timeout = Duration::from_secs(2);
            connection.max_command_attempts = 1;
            connection.reconnect_on_auth_error = true;
        })
        .set_policy(ReconnectPolicy::new_constant(0, 250))
        .build()
        .context("build the Redis client")
}
