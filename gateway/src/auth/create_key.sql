-- Stores a new key by the hash of its secret; returns its id.
insert into api_keys (name, rights, prefix, secret_hash)
values ($1, $2, $3, $4)
returning id;
