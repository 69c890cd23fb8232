-- Content at rest, encrypted when the service has master keys (docs/ARCHITECTURE.md). A message has its content plain or sealed.

-- What seals the messages of a location: a key of its own, wrapped by a master key that the database never sees.
create table data_keys (
    id            uuid primary key,
    location_id   ehr_id not null,
    master_key_id text collate "C" not null check (octet_length(master_key_id) between 1 and 32),
    wrapped       bytea not null check (octet_length(wrapped) = 60), -- 32 bytes, tag and nonce
    created_at    timestamptz not null default clock_timestamp(),
    retired_at    timestamptz                                        -- since then it only opens
);

-- One at a time seals: of two services that make a location's first key, one finds the other's.
create unique index data_keys_in_use on data_keys (location_id) where retired_at is null;

-- No reference to data_keys: checked row by row it would cost every send, and nothing deletes keys.
alter table messages
    alter column content drop not null,
    add column content_sealed bytea,
    add column content_key uuid;

-- It cannot be compressed.
alter table messages alter column content_sealed set storage external;

-- Ciphertext is as long as the text, which the service has measured in characters, and 28 bytes more. Not validated: what is
-- there has content, as the column said until now, and to read all of it would hold up every send.
alter table messages add constraint messages_content_plain_or_sealed check (
    case when content_sealed is null then content is not null and content_key is null
         else content is null and content_key is not null and octet_length(content_sealed) between 29 and 32028 end
) not valid;
