//! API keys in Postgres: only the secret's hash is there, the secret is shown once.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use deadpool_postgres::Pool;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;
use utoipa::ToSchema;
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

/// What a key is to be.
#[derive(Debug, Clone, Copy)]
pub struct KeyTerms<'a> {
    pub name: &'a str,
    pub rights: Right,
    pub expires_at: Option<Timestamp>,
    /// Requests or events a minute, as RATE_LIMIT_UNIT says.
    pub limit_per_min: Option<u32>,
}

/// A key that was just made. Without `Debug`: nothing prints the secret by accident.
#[derive(Serialize, ToSchema)]
pub struct NewKey {
    pub secret: String,
    #[serde(flatten)]
    pub record: KeyRecord,
}

impl std::ops::Deref for NewKey {
    type Target = KeyRecord;

    fn deref(&self) -> &KeyRecord {
        &self.record
    }
}

/// A key as lists show it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRecord {
    pub id: Uuid,
    pub prefix: String,
    pub rights: Right,
    pub name: String,
    pub limit_per_min: Option<u32>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place.
    pub replaced_by: Option<Uuid>,
}

/// What became of a key that was to be revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    Revoked,
    Unknown,
    /// It stays: without it nobody could administer keys over HTTP.
    LastAdmin,
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

    /// A key without end and without a limit of its own.
    pub async fn create(&self, name: &str, rights: Right) -> anyhow::Result<NewKey> {
        let terms = KeyTerms { name, rights, expires_at: None, limit_per_min: None };
        self.create_with(terms).await
    }

    pub async fn create_with(&self, terms: KeyTerms<'_>) -> anyhow::Result<NewKey> {
        let secret = new_secret(terms.rights)?;
        let client = self.client().await?;
        let row = client
            .query_one(
                include_str!("create_key.sql"),
                &[
                    &terms.name,
                    &terms.rights.name(),
                    &prefix(&secret),
                    &hash(&secret).as_slice(),
                    &terms.expires_at,
                    &terms.limit_per_min.map(i64::from).map(i32::try_from).transpose()?,
                ],
            )
            .await
            .context("store the key")?;
        Ok(NewKey { record: key_record(&row)?, secret })
    }

    /// A new secret for a key; the old one is good for as long as the two overlap. `None` when the
    /// key is not in force or was rotated before.
    pub async fn rotate(
        &self,
        id: Uuid,
        rights: Right,
        overlap: Duration,
    ) -> anyhow::Result<Option<NewKey>> {
        let secret = new_secret(rights)?;
        let client = self.client().await?;
        let row = client
            .query_opt(
                include_str!("rotate_key.sql"),
                &[&id, &prefix(&secret), &hash(&secret).as_slice(), &overlap.as_secs_f64()],
            )
            .await
            .context("rotate the key")?;
        row.map(|row| Ok(NewKey { record: key_record(&row)?, secret })).transpose()
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

    /// As `revoke`, but the last admin key in force stays.
    pub async fn revoke_unless_last(&self, id: Uuid) -> anyhow::Result<Revocation> {
        let client = self.client().await?;
        let row = client
            .query_one(include_str!("revoke_key_unless_last.sql"), &[&id])
            .await
            .context("revoke the key")?;
        Ok(match row.get("outcome") {
            "revoked" => Revocation::Revoked,
            "last_admin" => Revocation::LastAdmin,
            _ => Revocation::Unknown,
        })
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

fn prefix(secret: &str) -> &str {
    &secret[..PREFIX_CHARS]
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
        expires_at: row.get("expires_at"),
        revoked_at: row.get("revoked_at"),
        replaced_by: row.get("replaced_by"),
        limit_per_min: limit_per_min(row),
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
