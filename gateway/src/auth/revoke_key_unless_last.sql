-- Revokes a key, but not the last admin key in force. Two who revoke each other's key wait for each
-- other, and the second finds its own to be the last.
with admins as materialized (
    select id from api_keys
     where rights = 'admin' and replaced_by is null
       and revoked_at is null and (expires_at is null or expires_at > now())
     order by id
       for update
), revoked as (
    update api_keys set revoked_at = now()
     where id = $1 and revoked_at is null
       and (id not in (select id from admins) or (select count(*) from admins) > 1)
    returning id
)
select case
           when exists (select from revoked) then 'revoked'
           when exists (select from admins where id = $1) then 'last_admin'
           when exists (select from api_keys where id = $1) then 'revoked'
           else 'unknown'
       end as outcome;
