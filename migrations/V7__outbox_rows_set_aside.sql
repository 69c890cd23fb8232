-- What cannot be published is set aside, alone: one such row once held up every conversation behind it.

-- A row that cannot be rebuilt (its message or data key is gone, or it was altered). `api-service outbox list` shows these rows
-- and `api-service outbox retry` makes them wait again. The reason is a code and never content.
alter table outbox
    add column failed_at timestamptz,
    add column failed_reason text check (octet_length(failed_reason) <= 64),
    -- Redis refused the event: its conversation or its node has a fault. The row waits apart, so that it delays no other.
    add column deferred_at timestamptz;

-- Rows that wait, oldest first. This takes the place of outbox_unpublished, so an insert writes as many indexes as before.
create index outbox_waiting on outbox (id) where published_at is null and failed_at is null and deferred_at is null;
drop index outbox_unpublished;
create index outbox_deferred on outbox (id) where deferred_at is not null;
create index outbox_failed on outbox (id) where failed_at is not null;

-- Rows that Redis has taken, by time: a failover or a dead instance sends some of them once more. Without an index that
-- search read the whole backlog, at the worst moment.
create index outbox_published on outbox (published_at) where published_at is not null;

-- Who relays the outbox, and until when. One relay at a time keeps the order within a conversation. A lease and not a lock: no
-- transaction and no session stays open while the relay waits for Redis, and a frozen relay loses its turn.
create table outbox_relay (
    only_row boolean primary key default true check (only_row),
    holder   uuid,
    ends_at  timestamptz not null default '-infinity'
);
insert into outbox_relay default values;
