//! How a command reaches the gateway: its address, and a key that may read.

use anyhow::bail;
use common::config::Secret;
use reqwest::{Client, RequestBuilder};

#[derive(Debug, clap::Args)]
pub struct GatewayClient {
    /// The gateway to ask.
    #[arg(
        long,
        env = "GATEWAY_URL",
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        global = true
    )]
    gateway_url: String,
    /// An API key with the right `read`.
    #[arg(long, env = "READ_KEY", hide_env_values = true, value_name = "KEY", global = true)]
    key: Option<Secret>,
}

impl GatewayClient {
    pub fn get(&self, client: &Client, path: &str) -> anyhow::Result<RequestBuilder> {
        let Some(key) = &self.key else {
            bail!("no API key is given; set READ_KEY (`. .dev/env`), or pass --key");
        };
        let url = format!("{}{path}", self.gateway_url.trim_end_matches('/'));
        Ok(client.get(url).header("x-api-key", key.reveal()))
    }
}
