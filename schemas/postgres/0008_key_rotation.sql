-- API keys that expire, are replaced by a new secret, and have a limit of their own.

alter table api_keys
    -- Refused from then on; null: never. A rotated key expires when its overlap ends.
    add column expires_at     timestamptz,
    -- Events a minute; null: no limit of its own.
    add column limit_per_min  integer check (limit_per_min > 0),
    -- The first key of a line of rotations; null: this one. Quotas and stored answers go by it, so
    -- that a client with a new secret is still the same client.
    add column origin_id      uuid references api_keys (id);
