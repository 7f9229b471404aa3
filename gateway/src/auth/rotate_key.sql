-- Gives a key a successor with another secret, and lets the key itself expire $4 seconds from now,
-- or when it would have. The successor has the rights, the limit and the end of the key. No row when
-- the key is not in force, or has a successor already.
with key as (
    select * from api_keys
     where id = $1 and replaced_by is null
       and revoked_at is null and (expires_at is null or expires_at > now())
       for update
), successor as (
    insert into api_keys (name, rights, prefix, secret_hash, expires_at, limit_per_min, origin_id)
    select name, rights, $2, $3, expires_at, limit_per_min, coalesce(origin_id, id) from key
    returning *
), replaced as (
    update api_keys
       set replaced_by = successor.id,
           expires_at = least(api_keys.expires_at, now() + make_interval(secs => $4))
      from successor
     where api_keys.id = $1
)
select id, name, rights, prefix, created_at, last_used_at, expires_at, revoked_at, replaced_by,
       limit_per_min
  from successor;
