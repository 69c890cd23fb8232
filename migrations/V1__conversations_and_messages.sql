-- Identifiers come from the EHR: opaque text, the same rule as in shared/src/ids.rs.
create domain ehr_id as text collate "C" check (value ~ '^[A-Za-z0-9._~-]{1,64}$');

-- One row a pair of participants in a location. A send locks it and counts last_seq up, which is what makes
-- seq gapless and ordered by commit; it holds what the inbox needs, so the inbox never counts messages.
create table conversations (
    id                 uuid primary key,           -- UUIDv5 of location and pair
    location_id        ehr_id not null,
    user_id            ehr_id not null,            -- of two users: the one that sorts first
    contact_id         ehr_id,
    peer_user_id       ehr_id,
    last_seq           bigint not null default 0,
    last_activity_at   timestamptz not null,
    -- The inbox sorts by activity. An index on last_activity_at itself would make every send write it; the hour
    -- changes once an hour, so a send stays HOT, and a page sorts no more than the hours it spans.
    last_activity_hour timestamptz not null
        generated always as (date_bin('1 hour', last_activity_at, timestamptz '2000-01-01 00:00:00+00')) stored,
    user_unread        integer not null default 0, -- messages to user_id that it has not read
    other_unread       integer not null default 0, -- messages to contact_id or peer_user_id that it has not read
    check (num_nonnulls(contact_id, peer_user_id) = 1),
    check (user_id < peer_user_id),
    check (last_seq >= 0 and user_unread >= 0 and other_unread >= 0)
) with (fillfactor = 70); -- room on the page for the next version of a row

create index conversations_of_user    on conversations (location_id, user_id, last_activity_hour);
create index conversations_of_contact on conversations (location_id, contact_id, last_activity_hour) where contact_id is not null;
create index conversations_of_peer    on conversations (location_id, peer_user_id, last_activity_hour) where peer_user_id is not null;

create table messages (
    id                  uuid primary key,          -- UUIDv7
    location_id         ehr_id not null,
    sender_user_id      ehr_id,
    receiver_user_id    ehr_id,
    sender_contact_id   ehr_id,
    receiver_contact_id ehr_id,
    content             text not null check (char_length(content) between 1 and 8000),
    sent_at             timestamptz not null,
    read_at             timestamptz,
    is_read             boolean not null generated always as (read_at is not null) stored,
    conversation_id     uuid not null references conversations (id),
    seq                 bigint not null check (seq > 0),
    delivered_at        timestamptz,
    client_message_id   uuid,
    check (num_nonnulls(sender_user_id, sender_contact_id) = 1),
    check (num_nonnulls(receiver_user_id, receiver_contact_id) = 1),
    check (num_nonnulls(sender_contact_id, receiver_contact_id) <= 1),
    check (sender_user_id <> receiver_user_id),
    check (read_at is null or delivered_at is not null)
) with (fillfactor = 90); -- a receipt rewrites the row: read_at and delivered_at are not indexed, so it stays HOT

create unique index messages_in_order on messages (conversation_id, seq);

-- What makes a retry safe, kept for ever. A sender's ids are its own; the prefix of a sender keeps users and
-- contacts of the same identifier apart.
create unique index messages_by_client_id on messages (
    client_message_id, location_id, (coalesce('user:' || sender_user_id::text, 'contact:' || sender_contact_id::text))
) where client_message_id is not null;

-- One row an event that Redis may not have yet: written with the change it tells of, removed once it is published.
create table outbox (
    id              bigint generated always as identity primary key,
    location_id     ehr_id not null,
    conversation_id uuid not null,
    kind            text not null check (kind in ('message', 'delivered', 'read')),
    message_ids     uuid[] not null,               -- one for a message; the event is rebuilt from the rows
    at              timestamptz,                   -- of a receipt
    created_at      timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
