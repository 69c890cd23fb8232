-- The peers' tables, empty but for 1,000 conversations with the ids 1 to 1,000. Drops what is there.
drop table if exists yard_messages, yard_ordered_messages, yard_conversations;
\ir ../write/ordered.sql
create table yard_messages (
    id                  uuid primary key,
    location_id         text not null,
    sender_user_id      text,
    sender_contact_id   text,
    receiver_user_id    text,
    receiver_contact_id text,
    content             text not null,
    sent_at             timestamptz not null
);
insert into yard_conversations (location_id, first, second)
select 'pgbench', 'contact:pat' || n, 'user:doc123' from generate_series(1, 1000) n;
vacuum analyze yard_conversations;
