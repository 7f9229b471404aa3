-- All keys in force, for the cache.
select id, rights, secret_hash from api_keys where revoked_at is null;
