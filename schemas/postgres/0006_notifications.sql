-- History of the topic `notifications`, one row each.

create table notifications (
    id           text primary key,
    rule         text not null,
    severity     text not null,
    status       text not null,
    subject      text not null,
    object_type  text,
    object_id    text,
    user_id      text,
    observed     double precision not null,
    expected     double precision not null,
    score        double precision,
    text         text not null,
    occurred_at  timestamptz not null,
    data         jsonb not null,
    created_at   timestamptz not null default now()
);
create index notifications_subject on notifications (subject, occurred_at);
create index notifications_occurred_at on notifications (occurred_at);
