-- The hot statements, as api-service/src/store prepares them, explained on a database that `make seed` filled. Nothing is kept.
-- Sends are those of the path in two steps, so that each part has a plan of its own.
--   psql "$DATABASE_URL" -f bench/growth.sql
-- force_generic_plan: what a connection of the service ends up with after a few uses of a prepared statement.
\set QUIET on
\pset format unaligned
\pset tuples_only on
set plan_cache_mode = force_generic_plan;
set enable_seqscan = off;
set enable_bitmapscan = off;

\set columns 'm.id, m.location_id, m.sender_user_id, m.receiver_user_id, m.sender_contact_id, m.receiver_contact_id, m.content, m.content_sealed, m.content_key, m.sent_at, m.delivered_at, m.read_at, m.seq, m.client_message_id'
\set explain 'explain (analyze, buffers, summary)'

-- Whom to ask for: the longest conversation, an ordinary one, the users with most conversations and most unread.
select id as long, location_id as long_location, last_seq as long_size from conversations order by last_seq desc limit 1 \gset
select id as plain, location_id as plain_location from conversations where last_seq between 15 and 60 order by id limit 1 \gset
select location_id as busy_location, user_id as busy_user from conversations group by 1, 2 order by count(*) desc limit 1 \gset
select last_activity_at as deep_at, id as deep_id from conversations
    where location_id = :'busy_location' and user_id = :'busy_user' order by last_activity_at, id offset 20 limit 1 \gset

\set length 'coalesce(octet_length(m.content), octet_length(m.content_sealed) - 28)'
prepare before (uuid, text, bigint, bigint, bigint) as
    select :columns from (
        select :columns, sum(:length) over (order by m.seq desc rows between unbounded preceding and 2 preceding) as bytes_before
        from messages m where m.conversation_id = $1 and m.seq < $3 order by m.seq desc limit $4
    ) m where m.location_id = $2 and coalesce(m.bytes_before, 0) < $5 order by m.seq desc;
prepare after (uuid, text, bigint, bigint, bigint) as
    select :columns from (
        select :columns, sum(:length) over (order by m.seq rows between unbounded preceding and 2 preceding) as bytes_before
        from messages m where m.conversation_id = $1 and m.seq > $3 order by m.seq limit $4
    ) m where m.location_id = $2 and coalesce(m.bytes_before, 0) < $5 order by m.seq;
\echo == history: the newest 50 of the longest conversation, :long_size messages
:explain execute before (:'long', :'long_location', 9223372036854775807, 50, 524288);
\echo == history: 50 from its middle
:explain execute before (:'long', :'long_location', :long_size / 2, 50, 524288);
\echo == history: its first 50
:explain execute before (:'long', :'long_location', 51, 50, 524288);
\echo == history: 200 after the middle
:explain execute after (:'long', :'long_location', :long_size / 2, 200, 524288);
\echo == history: an ordinary conversation
:explain execute before (:'plain', :'plain_location', 9223372036854775807, 50, 524288);

-- The first unread message of a row that does not know it, as in api-service/src/store/first_unread.rs.
\set searched 'coalesce((select m.seq from messages m where m.conversation_id = c.conversation and m.seq > c.bound and m.seq <= c.bound + 1000 and m.read_at is null and (m.receiver_user_id is distinct from c.user_id) = c.is_other order by m.seq limit 1), (select case when count(*) = c.unread then min(m.seq) end from messages m where m.conversation_id = c.conversation and m.seq > c.last_seq - 1000 and m.read_at is null and (m.receiver_user_id is distinct from c.user_id) = c.is_other), -least(c.bound + 1000, c.last_seq))'
prepare inbox_of_user (text, text, timestamptz, uuid, bigint, bigint) as
    select p.* from (
    select c.conversation, c.user_id, c.contact_id, c.peer_user_id, c.last_activity_at, c.unread,
           case when c.unread = 0 then null when c.holds and c.first_unread > 0 then c.first_unread else :searched end as first_unread, :columns,
           sum(:length) over (order by c.last_activity_at desc, c.conversation desc rows between unbounded preceding and 2 preceding)
               as bytes_before
    from (
        select p.conversation, p.user_id, p.contact_id, p.peer_user_id, p.last_seq, p.last_activity_at, p.unread, p.first_unread, p.holds,
               p.is_other, coalesce(greatest(p.first_unread - 1, -p.first_unread), 0) as bound from (
        (select c.id as conversation, c.user_id, c.contact_id, c.peer_user_id, c.last_seq, c.last_activity_at, c.user_unread as unread,
             c.user_first_unread as first_unread, c.first_unread_reads = c.last_seq - c.user_unread - c.other_unread as holds, false as is_other
         from conversations c where c.location_id = $1 and c.user_id = $2 and c.last_seq > 0 and c.last_activity_hour <= $3
             and (c.last_activity_at, c.id) < ($3, $4)
         order by c.last_activity_hour desc fetch first $5 rows with ties)
        union all
        (select c.id as conversation, c.user_id, c.contact_id, c.peer_user_id, c.last_seq, c.last_activity_at, c.other_unread as unread,
             c.other_first_unread as first_unread, c.first_unread_reads = c.last_seq - c.user_unread - c.other_unread as holds, true as is_other
         from conversations c where c.location_id = $1 and c.peer_user_id = $2 and c.last_seq > 0 and c.last_activity_hour <= $3
             and (c.last_activity_at, c.id) < ($3, $4)
         order by c.last_activity_hour desc fetch first $5 rows with ties)
        ) p order by p.last_activity_at desc, p.conversation desc limit $5
    ) c join messages m on m.conversation_id = c.conversation and m.seq = c.last_seq
    ) p where coalesce(p.bytes_before, 0) < $6 order by p.last_activity_at desc, p.conversation desc;
\echo == inbox: first page of the busiest user
:explain execute inbox_of_user (:'busy_location', :'busy_user', '9999-01-01', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 50, 524288);
\echo == inbox: the same, twenty conversations from its end
:explain execute inbox_of_user (:'busy_location', :'busy_user', :'deep_at', :'deep_id', 50, 524288);

\echo == one unread count
prepare unread (uuid) as select user_unread, other_unread from conversations where id = $1;
:explain execute unread (:'plain');

-- 500 unread messages to one user, as far as there are as many; then 500 of one conversation.
select count(*) as picked, array_agg(id) as picked_ids, array_agg(0) as picked_marks from (
    select m.id from conversations c join messages m on m.conversation_id = c.id and m.seq > c.last_seq - 8
    where c.location_id = :'busy_location' and c.user_id = :'busy_user' and c.user_unread > 0
        and m.receiver_user_id = c.user_id and not m.is_read limit 500) x \gset
select array_agg(id) as long_ids, array_agg(0) as long_marks from (
    select id from messages where conversation_id = :'long' and receiver_user_id is not null order by seq desc limit 500) x \gset
select user_id as long_user from conversations where id = :'long' \gset

\set theirs 'unnest($1::uuid[], $2::integer[]) as x (id, mark) join unnest($3::integer[], $4::text[]) as g (mark, location_id) on g.mark = x.mark join unnest($5::integer[], $6::text[], $7::text[], $8::timestamptz[]) as p (mark, user_id, contact_id, at) on p.mark = x.mark join messages m on m.id = x.id and m.location_id = g.location_id and (m.receiver_user_id = p.user_id or m.receiver_contact_id = p.contact_id)'
prepare lock_read (uuid[], integer[], integer[], text[], integer[], text[], text[], timestamptz[]) as
    select id from conversations where id in (select m.conversation_id from :theirs where m.read_at is null) order by id for update;
prepare mark_read (uuid[], integer[], integer[], text[], integer[], text[], text[], timestamptz[]) as
    with theirs as materialized (
        select m.id, p.mark, p.at, m.sent_at, m.delivered_at, m.read_at, m.location_id, m.conversation_id, m.receiver_user_id,
            m.receiver_contact_id, m.sender_user_id, m.sender_contact_id
        from :theirs order by m.id for update of m
    ), timed as materialized (
        select t.*, greatest(least(t.at, statement_timestamp()),
            max(greatest(t.sent_at, t.delivered_at)) filter (where t.read_at is null) over (partition by t.mark)) as moment
        from theirs t
    ), changed as (
        update messages m set read_at = t.moment, delivered_at = coalesce(m.delivered_at, t.moment)
        from timed t where m.id = t.id and m.read_at is null
    )
    select t.id, t.location_id::text, t.conversation_id, t.receiver_user_id, t.receiver_contact_id, t.sender_user_id, t.sender_contact_id,
           coalesce(t.delivered_at, t.moment) as delivered_at, coalesce(t.read_at, t.moment) as read_at, t.read_at is null as changed
    from timed t order by t.id;
-- Of one side of a conversation, by the conditions of api-service/src/store/first_unread.rs.
\set of_user 'case when (c.user_unread - r.by_user) = 0 then null when r.by_user = 0 and c.first_unread_reads = c.last_seq - c.user_unread - c.other_unread and c.user_first_unread > 0 then c.user_first_unread else coalesce((select m.seq from messages m where m.conversation_id = c.id and m.seq > coalesce(greatest(c.user_first_unread - 1, -c.user_first_unread), 0) and m.seq <= coalesce(greatest(c.user_first_unread - 1, -c.user_first_unread), 0) + 10000 and m.read_at is null and m.receiver_user_id = c.user_id order by m.seq limit 1), (select case when count(*) = (c.user_unread - r.by_user) then min(m.seq) end from messages m where m.conversation_id = c.id and m.seq > c.last_seq - 10000 and m.read_at is null and m.receiver_user_id = c.user_id), -least(coalesce(greatest(c.user_first_unread - 1, -c.user_first_unread), 0) + 10000, c.last_seq)) end'
\set of_other 'case when (c.other_unread - r.by_other) = 0 then null when r.by_other = 0 and c.first_unread_reads = c.last_seq - c.user_unread - c.other_unread and c.other_first_unread > 0 then c.other_first_unread else coalesce((select m.seq from messages m where m.conversation_id = c.id and m.seq > coalesce(greatest(c.other_first_unread - 1, -c.other_first_unread), 0) and m.seq <= coalesce(greatest(c.other_first_unread - 1, -c.other_first_unread), 0) + 10000 and m.read_at is null and m.receiver_user_id is distinct from c.user_id order by m.seq limit 1), (select case when count(*) = (c.other_unread - r.by_other) then min(m.seq) end from messages m where m.conversation_id = c.id and m.seq > c.last_seq - 10000 and m.read_at is null and m.receiver_user_id is distinct from c.user_id), -least(coalesce(greatest(c.other_first_unread - 1, -c.other_first_unread), 0) + 10000, c.last_seq)) end'
prepare count_reads (uuid[], text[]) as
    update conversations c
    set user_unread = x.user_unread, other_unread = x.other_unread, user_first_unread = x.user_first_unread,
        other_first_unread = x.other_first_unread, first_unread_reads = c.last_seq - x.user_unread - x.other_unread
    from (
        select c.id, c.user_unread - r.by_user as user_unread, c.other_unread - r.by_other as other_unread,
            :of_user as user_first_unread, :of_other as other_first_unread
        from (
            select r.conversation_id, count(*) filter (where r.user_id = c.user_id)::integer as by_user,
                count(*) filter (where r.user_id is distinct from c.user_id)::integer as by_other
            from unnest($1::uuid[], $2::text[]) as r (conversation_id, user_id) join conversations c on c.id = r.conversation_id
            group by r.conversation_id
        ) r join conversations c on c.id = r.conversation_id
    ) x
    where c.id = x.id;
begin;
\echo == PUT /chat/read: :picked ids of many conversations, lock
:explain execute lock_read (:'picked_ids', :'picked_marks', '{0}', array[:'busy_location'], '{0}', array[:'busy_user'], array[null::text], array[now()]);
\echo == PUT /chat/read: the same, mark
:explain execute mark_read (:'picked_ids', :'picked_marks', '{0}', array[:'busy_location'], '{0}', array[:'busy_user'], array[null::text], array[now()]);
rollback;
begin;
update messages set read_at = null where id = any (:'long_ids'::uuid[]);
\echo == PUT /chat/read: 500 ids of the longest conversation, mark
:explain execute mark_read (:'long_ids', :'long_marks', '{0}', array[:'long_location'], '{0}', array[:'long_user'], array[null::text], array[now()]);
rollback;
begin;
update messages set read_at = null where conversation_id = :'long' and receiver_user_id is not null;
update conversations set user_unread = x.unread, user_first_unread = x.first, first_unread_reads = last_seq - x.unread - other_unread
from (select count(*) as unread, min(seq) as first from messages where conversation_id = :'long' and receiver_user_id is not null) x
where id = :'long';
update messages set read_at = now() where id in (
    select id from messages where conversation_id = :'long' and receiver_user_id is not null order by seq limit 500);
select array_agg(:'long'::uuid) as read_of, array_agg(:'long_user'::text) as readers from generate_series(1, 500) \gset
\echo == PUT /chat/read: the first 500 of the longest conversation, none of which was read; counters and first unread message
:explain execute count_reads (:'read_of', :'readers');
update messages set read_at = now() where conversation_id = :'long' and receiver_user_id is not null and seq < :long_size - 20000;
update conversations set user_first_unread = 1, user_unread = (
    select count(*) + 500 from messages where conversation_id = :'long' and receiver_user_id is not null and read_at is null)
where id = :'long';
\echo == the same, when the next unread message is farther than it searches
:explain execute count_reads (:'read_of', :'readers');
rollback;

-- A batch of 256 sends in 256 conversations that were chosen at random.
create temp table batch as select c.*, gen_random_uuid() as message, gen_random_uuid() as client_id, row_number() over () as place
    from (select * from conversations where contact_id is not null and id > gen_random_uuid() limit 2000000) c
    order by random() limit 256;
select array_agg(id) as ids, array_agg(message) as message_ids, array_agg(client_id) as client_ids,
    array_agg(location_id::text) as locations, array_agg(user_id::text) as users, array_agg('user:' || user_id) as senders, array_agg(contact_id::text) as contacts,
    array_agg(last_seq + 1) as seqs, array_agg(now()) as times, array_agg(0) as zeros, array_agg(1) as ones,
    array_agg('message'::text) as kinds, array_agg(repeat('word ', 30)) as contents, array_agg(null::text) as nobody,
    array_agg(null::integer) as nothing from batch \gset
prepare repeats (uuid[], text[], text[]) as
    select :columns from unnest($1, $2, $3) as x (client_message_id, location_id, sender)
    join messages m on m.client_message_id = x.client_message_id and m.location_id = x.location_id
        and coalesce('user:' || m.sender_user_id::text, 'contact:' || m.sender_contact_id::text) = x.sender;
prepare insert_messages (uuid[], text[], text[], text[], text[], text[], text[], timestamptz[], uuid[], bigint[], uuid[]) as
    insert into messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id, receiver_contact_id, content, sent_at,
        conversation_id, seq, client_message_id)
    select id, location_id, sender_user_id, receiver_user_id, sender_contact_id, receiver_contact_id, content, sent_at,
        conversation_id, seq, client_message_id
    from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as x (id, location_id, sender_user_id, receiver_user_id,
        sender_contact_id, receiver_contact_id, content, sent_at, conversation_id, seq, client_message_id);
prepare bump (uuid[], integer[], integer[], integer[], integer[], integer[]) as update conversations c
    set last_seq = c.last_seq + x.sent, last_activity_at = greatest(
            case when c.last_activity_at < '9999-12-31' then c.last_activity_at end, statement_timestamp()),
        user_unread = c.user_unread + x.to_user, other_unread = c.other_unread + x.to_other,
        user_first_unread = case when c.user_unread = 0 then c.last_seq + x.first_to_user else c.user_first_unread end,
        other_first_unread = case when c.other_unread = 0 then c.last_seq + x.first_to_other else c.other_first_unread end,
        first_unread_reads = case when c.user_unread = 0 and c.other_unread = 0 then c.last_seq else c.first_unread_reads end
    from (
        select id, sent, to_user, to_other, first_to_user, first_to_other from unnest($1, $2, $3, $4, $5, $6)
            as x (id, sent, to_user, to_other, first_to_user, first_to_other) order by id
    ) x where c.id = x.id
    returning c.id, c.last_seq, c.last_activity_at, c.user_unread, c.other_unread, c.user_first_unread, c.other_first_unread,
        c.first_unread_reads;
begin;
\echo == send, 256: lock the conversations and count them up
:explain execute bump (:'ids', :'ones', :'zeros', :'ones', :'nothing', :'ones');
\echo == send, 256: repeats
:explain execute repeats (:'client_ids', :'locations', :'senders');
\echo == send, 256: insert
:explain execute insert_messages (:'message_ids', :'locations', :'users', :'nobody', :'nobody', :'contacts', :'contents', :'times', :'ids', :'seqs', :'client_ids');
rollback;
