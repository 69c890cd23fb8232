-- Who did what, from where, with which outcome: docs/ARCHITECTURE.md. Rows are only ever added, and the service's role can do
-- no more than that. A row rides on every send, so it is slim, checks nothing that the service has checked, and has few indexes.

-- Rows are chained: each holds a keyed hash of itself and of the one before. A chain has one writer at a time, and many
-- chains grow side by side. This is where each of them ends, written in the transaction that adds to it.
create table audit_chains (
    id        bigint primary key,         -- 1, 2, 3 … without gaps: a chain that is gone leaves one
    key_id    text not null,              -- names the key, and says nothing of it
    opened_at timestamptz not null,
    n         bigint not null,            -- of the last row
    seal      bytea not null              -- keyed hash of all this and of the last row's hash
) with (fillfactor = 50);

create table audit_log (
    chain           bigint not null,
    n               bigint not null,      -- 1, 2, 3 … within the chain
    at              timestamptz not null,
    times           integer not null default 1, -- refusals that are the same are one row
    outcome         smallint not null,    -- HTTP status, or close code
    conversation_id uuid,
    event_id        uuid,                 -- of what gateways tell: it may arrive twice
    actor           text not null,        -- user:…, contact:…, service:…, operator:…, anonymous, system
    action          text not null,
    acts_for        text,                 -- as which participant, when that is not the actor
    counterpart     text,                 -- the other side of the conversation
    location_id     text,
    message_ids     uuid[],
    detail          text,
    request_id      text,
    source          text,                 -- address
    mac             bytea not null,
    primary key (chain, n)
);

create index audit_log_by_time on audit_log using brin (at);
create unique index audit_log_by_event on audit_log (event_id) where event_id is not null;
