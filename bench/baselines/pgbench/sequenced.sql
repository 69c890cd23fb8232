\set conversation random(1, 1000)
begin;
update yard_conversations set last_seq = last_seq + 1 where id = :conversation returning last_seq \gset
insert into yard_ordered_messages (id, conversation_id, seq, location_id, sender_user_id, receiver_contact_id, content, sent_at)
values (gen_random_uuid(), :conversation, :last_seq, 'pgbench', 'doc123', 'pat456', 'Hello patient! How are you today?', now());
commit;
