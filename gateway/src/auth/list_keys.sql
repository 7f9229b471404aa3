-- All keys, the revoked ones too, oldest first.
select id, name, rights, prefix, created_at, last_used_at, expires_at, revoked_at, replaced_by,
       limit_per_min
  from api_keys
 order by created_at, id;
