-- The key in force with this hash, when the cache does not know it yet.
select id, coalesce(origin_id, id) as origin_id, rights, secret_hash, expires_at, limit_per_min
  from api_keys
 where secret_hash = $1 and revoked_at is null and (expires_at is null or expires_at > now());
