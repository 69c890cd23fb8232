-- Fifty sends to fifty conversations, with the statement of api-service/src/store/sends/single_statement.rs less the trail.
\set base random(0, 19)
with made as materialized (
    select md5('pgbench' || :base * 50 + place)::uuid as conversation_id, gen_random_uuid() as id, place
    from generate_series(1, 50) place
), bumped as (
    update conversations c
    set last_seq = c.last_seq + x.sent, last_activity_at = greatest(c.last_activity_at, now()),
        user_unread = c.user_unread + x.to_user, other_unread = c.other_unread + x.to_other,
        user_first_unread = case when c.user_unread = 0 then c.last_seq + x.first_to_user else c.user_first_unread end,
        other_first_unread = case when c.other_unread = 0 then c.last_seq + x.first_to_other else c.other_first_unread end,
        first_unread_reads = case when c.user_unread = 0 and c.other_unread = 0 then c.last_seq else c.first_unread_reads end
    from (select conversation_id as id, 1 as sent, 0 as to_user, 1 as to_other,
              null::integer as first_to_user, 1 as first_to_other from made order by 1) x
    where c.id = x.id and (
        select count(*) from conversations where id = any(array(select conversation_id from made))
    ) = 50
    returning c.id, c.last_seq, c.last_activity_at
), written as (
    insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id,
        receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id)
    select x.id, 'pgbench', 'doc123', null, null, 'pat456', 'Hello patient! How are you today?', b.last_activity_at,
        x.conversation_id, b.last_seq, null
    from made x join bumped b on b.id = x.conversation_id
), remembered as (
    insert into outbox (kind, message_ids) select 'message', array(select id from made)
    where (select count(*) from bumped) = 50
    returning id
)
select b.*, (select id from remembered) from bumped b;
