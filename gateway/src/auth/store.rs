//! API keys in Postgres: only the secret's hash is there, the secret is shown once.

use std::fmt::Write as _;

use anyhow::Context;
use deadpool_postgres::Pool;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use uuid::Uuid;

use super::Right;

/// How the gateway knows a secret.
pub type SecretHash = [u8; 32];

/// 24 random bytes; the eight digits of them that lists show leave 160 bits to guess.
const SECRET_BYTES: usize = 24;
const PREFIX_CHARS: usize = "tm_w_".len() + 8;

pub struct KeyStore {
    pool: Pool,
}

/// A key that was just made.
#[derive(Debug)]
pub struct NewKey {
    pub id: Uuid,
    pub secret: String,
}

/// A key as lists show it.
#[derive(Debug)]
pub struct KeyRecord {
    pub id: Uuid,
    pub name: String,
    pub rights: Right,
    pub prefix: String,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// What the gateway keeps of a key in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct StoredKey {
    pub id: Uuid,
    /// The first key of its line of rotations, often itself.
    pub origin_id: Uuid,
    pub rights: Right,
    pub hash: SecretHash,
    pub expires_at: Option<Timestamp>,
    pub limit_per_min: Option<u32>,
}

impl KeyStore {
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    pub async fn require_current_schema(&self) -> anyhow::Result<()> {
        let client = self.client().await?;
        common::migrate::require_current(&client).await
    }

    pub async fn create(&self, name: &str, rights: Right) -> anyhow::Result<NewKey> {
        let secret = new_secret(rights)?;
        let client = self.client().await?;
        let row = client
            .query_one(
                include_str!("create_key.sql"),
                &[&name, &rights.name(), &&secret[..PREFIX_CHARS], &hash(&secret).as_slice()],
            )
            .await
            .context("store the key")?;
        Ok(NewKey { id: row.get("id"), secret })
    }

    pub async fn list(&self) -> anyhow::Result<Vec<KeyRecord>> {
        let client = self.client().await?;
        let rows =
            client.query(include_str!("list_keys.sql"), &[]).await.context("list the keys")?;
        rows.iter().map(key_record).collect()
    }

    pub async fn revoke(&self, id: Uuid) -> anyhow::Result<()> {
        let client = self.client().await?;
        client.execute(include_str!("revoke_key.sql"), &[&id]).await.context("revoke the key")?;
        Ok(())
    }

    pub(super) async fn in_force(&self) -> anyhow::Result<Vec<StoredKey>> {
        let client = self.client().await?;
        let statement = client.prepare_cached(include_str!("load_keys.sql")).await?;
        client.query(&statement, &[]).await?.iter().map(stored_key).collect()
    }

    pub(super) async fn find(&self, hash: &SecretHash) -> anyhow::Result<Option<StoredKey>> {
        let client = self.client().await?;
        let statement = client.prepare_cached(include_str!("find_key.sql")).await?;
        let row = client.query_opt(&statement, &[&hash.as_slice()]).await?;
        row.as_ref().map(stored_key).transpose()
    }

    /// Notes when keys were last used: `ids[i]` at `times[i]`.
    pub(super) async fn note_use(&self, ids: &[Uuid], times: &[Timestamp]) -> anyhow::Result<()> {
        let client = self.client().await?;
        let statement = client.prepare_cached(include_str!("note_key_use.sql")).await?;
        client.execute(&statement, &[&ids, &times]).await?;
        Ok(())
    }

    async fn client(&self) -> anyhow::Result<deadpool_postgres::Client> {
        self.pool.get().await.context("connect to Postgres as DATABASE_URL says")
    }
}

/// `tm_<first letter of the right>_<random>`: people see what a key is for before they paste it.
fn new_secret(rights: Right) -> anyhow::Result<String> {
    let mut random = [0; SECRET_BYTES];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("draw a secret: {error}"))?;
    let letter = &rights.name()[..1];
    Ok(random.iter().fold(format!("tm_{letter}_"), |mut secret, byte| {
        write!(secret, "{byte:02x}").expect("a String takes every text");
        secret
    }))
}

pub(super) fn hash(secret: &str) -> SecretHash {
    Sha256::digest(secret).into()
}

fn stored_key(row: &Row) -> anyhow::Result<StoredKey> {
    let hash: &[u8] = row.get("secret_hash");
    Ok(StoredKey {
        id: row.get("id"),
        origin_id: row.get("origin_id"),
        rights: row.get::<_, &str>("rights").parse()?,
        hash: hash.try_into().context("a secret_hash in api_keys is no SHA-256")?,
        expires_at: row.get("expires_at"),
        limit_per_min: limit_per_min(row),
    })
}

/// The column holds no other than positive numbers.
fn limit_per_min(row: &Row) -> Option<u32> {
    row.get::<_, Option<i32>>("limit_per_min").map(i32::unsigned_abs)
}

fn key_record(row: &Row) -> anyhow::Result<KeyRecord> {
    Ok(KeyRecord {
        id: row.get("id"),
        name: row.get("name"),
        rights: row.get::<_, &str>("rights").parse()?,
        prefix: row.get("prefix"),
        created_at: row.get("created_at"),
        last_used_at: row.get("last_used_at"),
        revoked_at: row.get("revoked_at"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_says_what_it_is_for_and_keeps_160_bits_out_of_lists() {
        let secret = new_secret(Right::Write).unwrap();
        assert!(secret.starts_with("tm_w_"), "{secret}");
        assert_ne!(secret, new_secret(Right::Write).unwrap());
        assert!((secret.len() - PREFIX_CHARS) * 4 >= 160);
    }
}
