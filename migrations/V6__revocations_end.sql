-- A revocation is of use until the last token that it names has ended by itself. Then the row can go.
-- 'infinity' is what rows of an older version of the service get: those are never removed.
alter table revocations add column expires_at timestamptz not null default 'infinity';

-- From here on no token lives for longer than 400 days (JWT_MAX_LIFETIME_SECONDS).
update revocations
set expires_at = greatest(created_at, to_timestamp(least(issued_before, 253402300799))) + interval '400 days';

create index revocations_by_end on revocations (expires_at);

-- A row without jti and sub revokes the tokens of everybody: after a restore, which forgets revocations.
alter table revocations
    drop constraint revocations_check,
    drop constraint revocations_check1,
    add constraint revocations_target check (case when jti is null then issued_before is not null
                                                  else sub is null and issued_before is null end);

-- Services read what is new by id: everything behind the last row that they know. So a row must not appear in front of one that
-- was seen already: one transaction at a time takes ids here, and keeps the others waiting until it has committed.
create function revocations_in_order() returns trigger language plpgsql as $$
begin
    perform pg_catalog.pg_advisory_xact_lock(8243124913886815265);
    return null;
end
$$;

create trigger revocations_in_order before insert on revocations
    for each statement execute function revocations_in_order();

-- The service's role may not delete revocations: whoever took over the service could give tokens back. This function deletes
-- for it, and only rows that are of no use. The newest row stays: it is the place from which services read on.
do $do$
begin
    execute format($create$
        create function forget_ended_revocations(most integer) returns bigint
        language sql security definer set search_path = pg_catalog, %I, pg_temp as $body$
            with ended as (
                select id from revocations
                where expires_at < now() and id < (select max(id) from revocations)
                order by expires_at
                limit least(most, 10000)
                for update skip locked
            ), gone as (
                delete from revocations where id in (select id from ended) returning 1
            )
            select count(*) from gone
        $body$
    $create$, current_schema());
end
$do$;

revoke all on function forget_ended_revocations(integer) from public;
