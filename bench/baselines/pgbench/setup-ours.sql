-- 1,000 conversations in our own tables, which must be there (`api-service migrate`): location `pgbench`, ids from their number.
insert into conversations (id, location_id, user_id, contact_id, last_activity_at)
select md5('pgbench' || n)::uuid, 'pgbench', 'doc123', 'pat' || n, to_timestamp(0) from generate_series(1, 1000) n
on conflict (id) do nothing;
insert into audit_chains (id, key_id, opened_at, n, seal) values (1, 'pgbench', now(), 0, '') on conflict (id) do nothing;
vacuum analyze conversations;
