-- Stores a new key by the hash of its secret.
insert into api_keys (name, rights, prefix, secret_hash, expires_at, limit_per_min)
values ($1, $2, $3, $4, $5, $6)
returning id, name, rights, prefix, created_at, last_used_at, expires_at, revoked_at, replaced_by,
          limit_per_min;
