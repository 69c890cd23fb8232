\set base random(0, 19)
with sent as (
    select gen_random_uuid() as id, :base * 50 + place as conversation_id, place from generate_series(1, 50) place
), bumped as (
    update yard_conversations c set last_seq = c.last_seq + n.count
    from (select conversation_id, count(*) as count from sent group by conversation_id) n
    where c.id = n.conversation_id
    returning c.id, c.last_seq - n.count as before
)
insert into yard_ordered_messages (id, conversation_id, seq, location_id, sender_user_id, receiver_contact_id, content, sent_at)
select s.id, b.id, b.before + row_number() over (partition by b.id order by s.place), 'pgbench', 'doc123', 'pat456',
    'Hello patient! How are you today?', now()
from sent s join bumped b on b.id = s.conversation_id;
