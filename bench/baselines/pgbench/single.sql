insert into yard_messages (id, location_id, sender_user_id, receiver_contact_id, content, sent_at)
values (gen_random_uuid(), 'pgbench', 'doc123', 'pat456', 'Hello patient! How are you today?', now());
