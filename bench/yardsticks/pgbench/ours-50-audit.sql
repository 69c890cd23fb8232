-- ours-50.sql with what the audit trail writes on top (store/audit.rs): fifty rows, and where their chain ends. The arrays
-- that the service computes come with the answer to the first of them, and what follows leaves in one round trip, as there.
\set base random(0, 19)
begin;
with bumped as (
    update conversations c
    set last_seq = c.last_seq + x.sent, last_activity_at = greatest(c.last_activity_at, now()),
        user_unread = c.user_unread + x.to_user, other_unread = c.other_unread + x.to_other
    from (
        select id, 1 as sent, 0 as to_user, 1 as to_other
        from unnest(array(select md5('pgbench' || :base * 50 + place)::uuid from generate_series(1, 50) place)) as x (id)
        order by id
    ) x
    where c.id = x.id
    returning c.id, c.last_seq
)
select array_agg(id) as conversations, array_agg(gen_random_uuid()) as ids, array_agg(last_seq) as seqs,
    array_fill('pgbench'::text, array[50]) as locations, array_fill('doc123'::text, array[50]) as senders,
    array_fill('pat456'::text, array[50]) as receivers, array_fill(null::text, array[50]) as nobody,
    array_fill('Hello patient! How are you today?'::text, array[50]) as contents,
    array_fill(now(), array[50]) as times, array_fill(null::uuid, array[50]) as client_ids
from bumped \gset
\startpipeline
insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
    receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id)
select id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
    receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id
from unnest(:ids::uuid[], :locations::text[], :senders::text[], :nobody::text[], :nobody::text[], :receivers::text[],
    :contents::text[], :times::timestamptz[], :conversations::uuid[], :seqs::bigint[], :client_ids::uuid[])
    as x (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
          receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id);
insert into outbox (kind, message_ids) values ('message', :ids::uuid[]) returning id;
with moved as (
    update audit_chains set n = n + 50, seal = decode(repeat('00', 32), 'hex') where id = 0 returning n
)
insert into audit_log (chain, n, at, times, outcome, conversation_id, actor, action, counterpart, location_id, message_ids,
    request_id, source, mac)
select 0, moved.n - 50 + x.place, now(), 1, 201, x.conversation_id, 'user' || chr(58) || 'doc123', 'send', 'contact' || chr(58) || 'pat456', 'pgbench',
    array[x.id], '01a20ff9-b2b0-776c-adea-27be994714f9', '127.0.0.1', decode(repeat('00', 32), 'hex')
from moved, unnest(:conversations::uuid[], :ids::uuid[]) with ordinality as x (conversation_id, id, place);
commit;
\endpipeline
