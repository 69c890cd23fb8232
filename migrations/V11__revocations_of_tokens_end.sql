-- V6 gave revocations of single tokens an end in the year 11001: least() passes over NULL, which `issued_before` is there. Nobody but V6
-- writes an end beyond the year 9999. Like all other tokens, those end 400 days after they were revoked at the latest.
update revocations set expires_at = created_at + interval '400 days'
where jti is not null and isfinite(expires_at) and expires_at > to_timestamp(253402300799);
