-- The key in force with this hash, when the cache does not know it yet.
select id, rights, secret_hash from api_keys
 where secret_hash = $1 and revoked_at is null;
