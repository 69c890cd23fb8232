-- A row tells of all messages of one transaction: of 50 sends that share a commit, one row instead of 50 is written,
-- removed and vacuumed. Where the messages belong is told by themselves; a receipt still names its conversation.
alter table outbox
    alter column location_id drop not null,
    alter column conversation_id drop not null,
    add check (kind = 'message' or num_nulls(location_id, conversation_id, at) = 0);
