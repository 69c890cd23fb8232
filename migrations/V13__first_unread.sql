-- The seq of the first unread message of each side. Null when nothing is unread, and in rows that no service has counted since.
-- Zero and below: the first unread message is not known yet, but it is behind the negated number.
--
-- A service of an earlier version counts without these columns. It changes the number of read messages with each mark, so the
-- columns hold only while that number (last_seq - user_unread - other_unread) is first_unread_reads. Otherwise they are lower
-- bounds: no message becomes unread again.
alter table conversations
    add column user_first_unread bigint,
    add column other_first_unread bigint,
    add column first_unread_reads bigint not null default 0;
