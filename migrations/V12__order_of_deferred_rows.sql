-- The conversations of a deferred row. A newer row of one of them is deferred as well, so that it does not overtake: another
-- instance may have found that Redis takes the conversation again before the older row was resumed.
alter table outbox add column deferred_conversations uuid[];

create index outbox_deferred_conversations on outbox using gin (deferred_conversations) where deferred_at is not null;
