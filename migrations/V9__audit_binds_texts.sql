-- What a message says is bound to the row that tells of it, by a keyed hash: half of an HMAC-SHA256 under AUDIT_KEY. Without the
-- key nobody can tell the text from it, nor whether two messages say the same. Rows from before have none.
alter table audit_log add column text_mac bytea;

-- Chains and places count from 1. Whatever else stands there was written past the service. Not validated here: that reads the
-- whole trail, and `migrate` does it afterwards, beside running services.
alter table audit_chains add constraint audit_chains_number check (id >= 1 and n >= 0) not valid;
alter table audit_log add constraint audit_log_place check (chain >= 1 and n >= 1) not valid;

-- Without gaps: the role that serves cannot leave a number out, or take all of them away from everybody else. The owner, who
-- could drop this, may bring chains back from an archive.
create function audit_chains_next() returns trigger language plpgsql as $$
declare
    newest bigint;
begin
    if pg_get_userbyid((select relowner from pg_class where oid = tg_relid)) = current_user then
        return new;
    end if;
    select coalesce(max(id), 0) into newest from audit_chains;
    if new.id > newest + 1 then
        raise exception 'chain % is not the next one', new.id using errcode = 'check_violation';
    elsif new.id <= newest then
        -- Somebody else was faster.
        raise exception 'chain % is there already', new.id using errcode = 'unique_violation';
    end if;
    return new;
end
$$;
create trigger audit_chains_next before insert on audit_chains for each row execute function audit_chains_next();
