-- The tables of the peers that number the messages of a conversation, and of pgbench's single-row scripts.
create table if not exists yard_conversations (
    id          bigint generated always as identity primary key,
    location_id text not null,
    first       text not null, -- participants, `contact:ID` or `user:ID`, in alphabetical order
    second      text not null,
    last_seq    bigint not null default 0,
    unique (location_id, first, second)
) with (fillfactor = 70);

create table if not exists yard_ordered_messages (
    id                  uuid primary key,
    conversation_id     bigint not null references yard_conversations (id),
    seq                 bigint not null,
    location_id         text not null,
    sender_user_id      text,
    sender_contact_id   text,
    receiver_user_id    text,
    receiver_contact_id text,
    content             text not null,
    sent_at             timestamptz not null,
    unique (conversation_id, seq)
);
