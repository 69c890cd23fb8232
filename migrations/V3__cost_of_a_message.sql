-- What a message costs PostgreSQL, as measured (docs/PERFORMANCE.md): more than half of it went into the following.

-- The same rule in two parts. {1,64} in the expression costs ten times as much, and every message has three identifiers.
-- Not validated: what is there has passed the same rule, and to read all of it again would hold up every send.
alter domain ehr_id drop constraint ehr_id_check;
alter domain ehr_id add constraint ehr_id_check check (octet_length(value) <= 64 and value ~ '^[A-Za-z0-9._~-]+$') not valid;

-- Checked row by row, the key costs a quarter of a send. It cannot be broken: the one writer locks the conversation's row in
-- the transaction that inserts its messages, and nothing deletes conversations.
alter table messages drop constraint messages_conversation_id_fkey;

-- Delivered and read write the row anew. With room for that on its page no index is written: HOT are then 98 % of these
-- updates in place of 18 %, and they cost a third.
alter table messages set (fillfactor = 50);

-- When Redis took it; the row stays for a moment longer, in which the Redis that took it may die and its successor not know.
alter table outbox add column published_at timestamptz;
create index outbox_unpublished on outbox (id) where published_at is null;

-- A row tells of all messages of one transaction: of 50 sends that share a commit, one row instead of 50 is written,
-- removed and vacuumed. Where the messages belong is told by themselves; a receipt still names its conversation.
alter table outbox
    alter column location_id drop not null,
    alter column conversation_id drop not null,
    add check (kind = 'message' or num_nulls(location_id, conversation_id, at) = 0);
