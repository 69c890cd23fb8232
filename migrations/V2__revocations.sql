-- Tokens that are refused before they expire. Rows are only ever added: see shared/src/revocation.rs.
create table revocations (
    id            bigint generated always as identity primary key,
    jti           text check (char_length(jti) between 1 and 256),
    sub           ehr_id,
    issued_before bigint,                          -- seconds since 1970, as the claim `iat` counts them
    created_at    timestamptz not null default clock_timestamp(),
    check (num_nonnulls(jti, sub) = 1),
    check ((sub is null) = (issued_before is null))
);

create index revocations_by_time on revocations (created_at);
