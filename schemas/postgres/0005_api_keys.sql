-- API keys of the gateway: the secret's hash, never the secret.

create table api_keys (
    id            uuid primary key default gen_random_uuid(),
    name          text not null,
    rights        text not null check (rights in ('read', 'write', 'admin')),
    -- The first characters of the secret, to tell keys apart in lists.
    prefix        text not null,
    -- SHA-256: the secret is random, so a slow hash would add nothing but time.
    secret_hash   bytea not null unique,
    created_at    timestamptz not null default now(),
    last_used_at  timestamptz,
    revoked_at    timestamptz
);
