//! The first unread message of each side of a conversation, which `conversations` keeps like the unread counters.
//!
//! A send sets it when nothing was unread before. A read mark searches the next one. Both hold the lock of the conversation's row,
//! so the column agrees with the messages at every commit.
//!
//! A service of an earlier version counts without these columns, and rows from before have none. Such a row does not know its first
//! unread message, but it knows a lower bound, because no message becomes unread again. Readers then search from there. Every
//! search reads a bounded part of the conversation, by the index `messages_in_order`. Where that is not enough, the first unread
//! message stays unknown, and a later mark or `api-service migrate` continues behind the part that was searched.

/// Whether the columns of the row `c` hold: no service of an earlier version has marked since they were written.
macro_rules! holds {
    () => {
        "c.first_unread_reads = c.last_seq - c.user_unread - c.other_unread"
    };
}

/// All messages up to this one are read, by the column `$first`.
macro_rules! lower_bound {
    ($first:literal) => {
        concat!("coalesce(greatest(", $first, " - 1, -", $first, "), 0)")
    };
}

/// The first unread message of one side of the row `c`: null when nothing is unread, and not positive when it is unknown.
///
/// `$holds` says whether the column `$first` can be taken. Otherwise two parts of $most messages are searched. One is behind
/// `$bound`. The other is the end of the conversation, which shows the first one if it holds all `$unread` messages.
macro_rules! first_unread {
    (
        conversation: $id:literal, receiver: $receiver:expr, unread: $unread:literal, first: $first:literal,
        bound: $bound:expr, holds: $holds:expr, most: $most:literal
    ) => {
        concat!(
            "case when ",
            $unread,
            " = 0 then null when ",
            $holds,
            " and ",
            $first,
            " > 0 then ",
            $first,
            " else coalesce(
                (select m.seq from messages m where m.conversation_id = ",
            $id,
            " and m.seq > ",
            $bound,
            " and m.seq <= ",
            $bound,
            " + ",
            $most,
            " and m.read_at is null and ",
            $receiver,
            " order by m.seq limit 1),
                (select case when count(*) = ",
            $unread,
            " then min(m.seq) end from messages m where m.conversation_id = ",
            $id,
            " and m.seq > c.last_seq - ",
            $most,
            " and m.read_at is null and ",
            $receiver,
            "),
                -least(",
            $bound,
            " + ",
            $most,
            ", c.last_seq)) end"
        )
    };
}

/// The receivers of the messages to the first side, a condition on `m` and `c`.
macro_rules! to_user {
    () => {
        "m.receiver_user_id = c.user_id"
    };
}

/// The receivers of the messages to the second side.
macro_rules! to_other {
    () => {
        "m.receiver_user_id is distinct from c.user_id"
    };
}

/// Counts down the unread messages of locked conversations, and searches the first unread one of each side that marked. The other
/// side keeps its own.
pub(super) const COUNT_READS: &str = concat!(
    "update conversations c
    set user_unread = x.user_unread, other_unread = x.other_unread, user_first_unread = x.user_first_unread,
        other_first_unread = x.other_first_unread, first_unread_reads = c.last_seq - x.user_unread - x.other_unread
    from (
        select c.id, c.user_unread - r.by_user as user_unread, c.other_unread - r.by_other as other_unread, ",
    first_unread!(
        conversation: "c.id", receiver: to_user!(), unread: "(c.user_unread - r.by_user)", first: "c.user_first_unread",
        bound: lower_bound!("c.user_first_unread"), holds: concat!("r.by_user = 0 and ", holds!()), most: "10000"
    ),
    " as user_first_unread, ",
    first_unread!(
        conversation: "c.id", receiver: to_other!(), unread: "(c.other_unread - r.by_other)", first: "c.other_first_unread",
        bound: lower_bound!("c.other_first_unread"), holds: concat!("r.by_other = 0 and ", holds!()), most: "10000"
    ),
    " as other_first_unread
        from (
            select r.conversation_id,
                   count(*) filter (where r.user_id = c.user_id)::integer as by_user,
                   count(*) filter (where r.user_id is distinct from c.user_id)::integer as by_other
            from unnest($1::uuid[], $2::text[]) as r (conversation_id, user_id)
            join conversations c on c.id = r.conversation_id
            group by r.conversation_id
        ) r
        join conversations c on c.id = r.conversation_id
    ) x
    where c.id = x.id"
);

pub(super) use {first_unread, holds, lower_bound, to_other, to_user};

/// The first unread message of each side, as a row of `conversations` stores it. `None` when the row does not know one of them.
pub(super) fn stored(
    last_seq: i64,
    unread: [i32; 2],
    first_unread: [Option<i64>; 2],
    reads: i64,
) -> Option<[Option<i64>; 2]> {
    let holds = reads == last_seq - i64::from(unread[0]) - i64::from(unread[1]);
    let mut known = [None; 2];
    for ((known, unread), first) in known.iter_mut().zip(unread).zip(first_unread) {
        if unread > 0 {
            *known = Some(first.filter(|first| holds && *first > 0)?);
        }
    }
    Some(known)
}

/// What a query with [`first_unread!`] returned.
pub(super) fn found(first_unread: Option<i64>) -> Option<i64> {
    first_unread.filter(|seq| *seq > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_knows_first_unread_only_while_its_reads_match() {
        assert_eq!(stored(9, [2, 0], [Some(4), None], 7), Some([Some(4), None]));
        assert_eq!(stored(9, [0, 0], [None, None], 0), Some([None, None]), "nothing is unread, by any version");
        assert_eq!(stored(9, [0, 0], [Some(4), None], 0), Some([None, None]), "an earlier version does not clear it");
        assert_eq!(stored(9, [1, 0], [Some(4), None], 7), None, "an earlier version marked");
        assert_eq!(stored(9, [2, 1], [Some(4), None], 6), None, "an earlier version sent");
        assert_eq!(stored(9, [2, 0], [Some(-3), None], 7), None, "the search has not found it yet");
    }
}
