-- Which master keys each API service holds that runs now, by name and fingerprint: `keys rewrap` uses none that one of them lacks. A row a
-- service, written every ten seconds; one that was not written for a minute is of a service that died.
create table running_services (
    instance    uuid primary key,
    master_keys text[] not null,
    seals       boolean not null,         -- writes no text in the open
    started_at  timestamptz not null default clock_timestamp(),
    seen_at     timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- Where work ended that takes long, so that it goes on from there.
create table progress (
    name     text primary key,
    position uuid not null,
    at       timestamptz not null default clock_timestamp()
);
