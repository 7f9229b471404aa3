-- Revokes a key; the time of a first revocation stays.
update api_keys set revoked_at = now()
 where id = $1 and revoked_at is null;
