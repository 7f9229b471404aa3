-- All keys in force, for the cache.
select id, coalesce(origin_id, id) as origin_id, rights, secret_hash, expires_at, limit_per_min
  from api_keys
 where revoked_at is null and (expires_at is null or expires_at > now());
