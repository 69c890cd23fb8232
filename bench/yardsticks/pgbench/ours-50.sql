-- Fifty sends to fifty conversations with the statements of api-service/src/store (conversations, messages, outbox). The arrays
-- that the service computes come with the lock's answer, and what follows leaves in one round trip, as there.
\set base random(0, 19)
begin;
select array_agg(id) as conversations, array_agg(gen_random_uuid()) as ids, array_agg(last_seq + 1) as seqs,
    array_fill('pgbench'::text, array[50]) as locations, array_fill('doc123'::text, array[50]) as senders,
    array_fill('pat456'::text, array[50]) as receivers, array_fill(null::text, array[50]) as nobody,
    array_fill('Hello patient! How are you today?'::text, array[50]) as contents,
    array_fill(now(), array[50]) as times, array_fill(null::uuid, array[50]) as client_ids,
    array_fill(0, array[50]) as none, array_fill(1, array[50]) as one, array_fill('message'::text, array[50]) as kinds,
    array_fill(null::timestamptz, array[50]) as no_times
from (
    select id, last_seq, last_activity_at from conversations
    where id = any(array(select md5('pgbench' || :base * 50 + place)::uuid from generate_series(1, 50) place))
    order by id for update
) locked \gset
\startpipeline
insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
    receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id)
select id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
    receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id
from unnest(:ids::uuid[], :locations::text[], :senders::text[], :nobody::text[], :nobody::text[], :receivers::text[],
    :contents::text[], :times::timestamptz[], :conversations::uuid[], :seqs::bigint[], :client_ids::uuid[])
    as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
          receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id);
update conversations c
set last_seq = x.last_seq, last_activity_at = x.last_activity_at,
    user_unread = user_unread + x.to_user, other_unread = other_unread + x.to_other
from unnest(:conversations::uuid[], :seqs::bigint[], :times::timestamptz[], :none::integer[], :one::integer[])
    as x (id, last_seq, last_activity_at, to_user, to_other)
where c.id = x.id;
insert into outbox (location_id, conversation_id, kind, message_ids, at)
select location_id, conversation_id, kind, string_to_array(message_ids, ',')::uuid[], at
from unnest(:locations::text[], :conversations::uuid[], :kinds::text[], :ids::text[], :no_times::timestamptz[]) with ordinality
    as x (location_id, conversation_id, kind, message_ids, at, place)
order by place returning id;
commit;
\endpipeline
