//! Lua scripts that work on event logs, inboxes and streams. Redis runs each as one atomic step.

use crate::kit::redis::Topology;

macro_rules! publish {
    ($publish:literal, $count:literal) => {
        concat!(
            r#"
-- KEYS[i] is the log of event i. ARGV[1] is how many entries a log keeps, ARGV[2] its life in milliseconds. Seven arguments
-- per event follow. Each event gets one value in `cursors`: its cursor, '' (not needed), nil (too early), or '!' and an error.
local call, pcall, sub, max = redis.call, redis.pcall, string.sub, math.max
local cursors, failed, contents = {}, {}, {}
for i, log in ipairs(KEYS) do
    local at = 7 * i - 4
    local kind, header, body, channel = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local seq, mode, request = tonumber(ARGV[at + 4]), ARGV[at + 5], ARGV[at + 6]

    -- Position: `last` is the newest entry of the log, {id, fields}. A log that rejected an earlier event of this call
    -- rejects the later ones as well, so that none of them overtakes it.
    local newest = failed[log] or pcall('XREVRANGE', log, '+', '-', 'COUNT', 1)
    local last = newest[1]

    -- A stream without an entry was opened by a reader (LOG_TAIL): its last id is the marker, and readers hold it as a
    -- cursor. The first event writes the marker into the log as an entry without a frame, so that the log can be read from it.
    local is_opened = not last and not newest.err and call('EXISTS', log) == 1
    if is_opened then
        local info = call('XINFO', 'STREAM', log)
        local marker
        for j = 1, #info, 2 do if info[j] == 'last-generated-id' then marker = info[j + 1] end end
        -- '0-0' means that a consumer group or an operator made the stream. Such a stream has no marker.
        if marker ~= '0-0' then
            last = {marker, {'s', ''}}
            -- XSETID fails where entries were deleted by hand. Then the marker cannot be an entry, and a client that holds it
            -- as a cursor loads the history.
            local set = pcall('XSETID', log, '0-0')
            if not set.err then call('XADD', log, marker, 's', '', 't', '', 'h', '', 'b', '') end
        end
    end

    -- Predecessor: every entry carries in field `s` the highest message number (`seq`) up to there; 0 is unknown.
    local known = last and tonumber(last[2][2]) or 0

    -- Dedup, only in mode 'deduplicate': the log holds the event already if an entry has the same type and header. Receipts have
    -- an empty header; they are compared by body. A log is read once per call.
    local identity = kind .. (header ~= '' and 'h' .. header or 'b' .. body)
    if last and mode == 'deduplicate' and not contents[log] then
        local held = {}
        for _, entry in ipairs(call('XREVRANGE', log, '+', '-', 'COUNT', ARGV[1])) do
            local fields = entry[2]
            -- A foreign entry may lack fields.
            local kind, header, body = fields[4] or '', fields[6] or '', fields[8] or ''
            held[kind .. (header ~= '' and 'h' .. header or 'b' .. body)] = true
        end
        contents[log] = held
    end
    local is_held = mode == 'deduplicate' and contents[log] and contents[log][identity]

    if newest.err then
        failed[log] = newest
        cursors[i] = '!' .. newest.err
    -- Nothing to do: the log holds the event, or there is no log and the channel has no subscriber. Without a log no client
    -- holds a cursor, so no client can miss the event.
    elseif is_held or not last and not is_opened and call('PUBSUB', '"#,
            $count,
            r#"', channel)[2] == 0 then
        cursors[i] = ''
    -- Too early, only in mode 'after_predecessor': the message before this one is not in the log yet. The caller tries again later.
    -- A receipt has seq 0, so it is never too early.
    elseif mode == 'after_predecessor' and known > 0 and seq > known + 1 then
        cursors[i] = false
    else
        local previous = last and last[1] or '-'
        seq = max(seq, known)
        -- Append and trim: Redis chooses the id, which is the event's cursor, and drops the oldest entries beyond ARGV[1].
        local id = pcall('XADD', log, 'MAXLEN', '=', ARGV[1], '*', 's', seq, 't', kind, 'h', header, 'b', body)
        if type(id) == 'table' then
            failed[log] = id
            cursors[i] = '!' .. id.err
        else
            if contents[log] then contents[log][identity] = true end
            -- The life is renewed by the first event, and when the first nine digits of the id (units of ten seconds) change.
            if is_opened or sub(previous, 1, 9) ~= sub(id, 1, 9) then call('PEXPIRE', log, ARGV[2]) end
            -- The first line is for gateways: CURSOR PREVIOUS, for a message its recipient and id, and after a tab the
            -- request. A gateway whose own position is not PREVIOUS has missed something. The frame for clients follows.
            local position = id .. ' ' .. previous
            if header ~= '' then position = position .. ' ' .. header end
            if request ~= '' then position = position .. '\t' .. request end
            call('"#,
            $publish,
            r#"', channel, position .. '\n{"type":"' .. kind .. '","cursor":"' .. id .. '",' .. body)
            cursors[i] = id
        end
    end
end
return cursors
"#
        )
    };
}

/// Counts the gateways that subscribe to a channel of a Redis Cluster. It runs on the node of the channel. (On a single server
/// `PUBSUB NUMSUB` costs a tenth.)
///
/// Keys: any in the channel's slot. Arguments: channel.
pub const SUBSCRIBER_COUNT: &str = "return redis.call('PUBSUB', 'SHARDNUMSUB', ARGV[1])[2]";

/// Publishes the rows of inboxes that are newer than the last published ones.
///
/// `KEYS[i]` holds the version of the row that was published last. `ARGV[1]` is the life of these keys in milliseconds. Three
/// arguments per row follow: its channel, its version, its frame. Returns how many rows were published.
macro_rules! publish_rows {
    ($publish:literal) => {
        concat!(
            r#"
local published = 0
for i, key in ipairs(KEYS) do
    local at = 3 * i - 1
    local last = tonumber(redis.pcall('GET', key))
    if not last or last < tonumber(ARGV[at + 1]) then
        redis.pcall('SET', key, ARGV[at + 1], 'PX', ARGV[1])
        redis.call('"#,
            $publish,
            r#"', ARGV[at], ARGV[at + 2])
        published = published + 1
    end
end
return published
"#
        )
    };
}

impl Topology {
    /// Appends events to their logs and publishes each one, with its entry's id as cursor, in one atomic step. So the order in
    /// a log is the order on its channel. Each published event names the entry before it, so a gateway notices a lost event at
    /// once.
    ///
    /// Without a log and without subscribers the script does nothing: a log begins when a gateway first reads its tail
    /// ([`LOG_TAIL`]), so before that no client holds a cursor. The life of a log is not renewed with every event, so it may
    /// end ten seconds early. The first event turns the marker that opened the log into an entry.
    ///
    /// Keys and arguments: see [`crate::contract::event::publish_batch::PublishBatch`]. Keys are logs only: while a slot
    /// migrates, a Cluster rejects commands that name one key that exists and one that does not. Returns per event its cursor,
    /// `''` where it is not needed or held already, nil if it is too early, and `!` with Redis's error if the log rejects it.
    /// Such an error ends only the events of that conversation.
    #[must_use]
    pub const fn publish_script(self) -> &'static str {
        match self {
            Self::Single => publish!("PUBLISH", "NUMSUB"),
            Self::Cluster => publish!("SPUBLISH", "SHARDNUMSUB"),
        }
    }

    /// Publishes rows of inboxes. Many instances publish rows of one conversation, in any order. A row that is not newer than
    /// the last published one is left out, so the last row on a channel is always the newest. If the stored version cannot be
    /// read or written, the row is published all the same.
    ///
    /// Keys and arguments: see [`crate::contract::event::inbox_publish_batch::InboxPublishBatch`]. Returns how many were published.
    #[must_use]
    pub const fn publish_rows_script(self) -> &'static str {
        match self {
            Self::Single => publish_rows!("PUBLISH"),
            Self::Cluster => publish_rows!("SPUBLISH"),
        }
    }

    /// Publishes to a channel without a log: for events that are of no use later (typing).
    ///
    /// Keys: channel. Arguments: the whole payload.
    #[must_use]
    pub const fn publish_ephemeral_script(self) -> &'static str {
        match self {
            Self::Single => "return redis.call('PUBLISH', KEYS[1], ARGV[1])",
            Self::Cluster => "return redis.call('SPUBLISH', KEYS[1], ARGV[1])",
        }
    }
}

/// Renames keys that have another type than expected: an operator or another program wrote to a name of this system, which
/// would block it for good. Nothing is deleted.
///
/// Keys: any in one slot. Arguments: the type of each (`stream`, `hash`, `zset`, `set`), and behind them the suffix of the new
/// names. Returns the names that were moved.
pub const RENAME_WRONG_TYPE: &str = r"
local moved = {}
for i, key in ipairs(KEYS) do
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= ARGV[i] then
        local name = string.find(key, '{', 1, true) and key or '{' .. key .. '}'
        redis.call('RENAME', key, name .. ARGV[#KEYS + 1])
        moved[#moved + 1] = key
    end
end
return moved
";

/// Removes consumers of a group that hold no entry and have been idle.
///
/// Keys: the stream. Arguments: the group, and for how many milliseconds a consumer must have been silent. Returns how many.
/// Checking and removing are one step, so no consumer is removed after it was given an entry.
pub const REMOVE_IDLE_CONSUMERS: &str = r"
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local of = {}
    for i = 1, #consumer, 2 do of[consumer[i]] = consumer[i + 1] end
    if of.pending == 0 and of.idle > tonumber(ARGV[2]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], of.name)
        removed = removed + 1
    end
end
return removed
";

/// A script that adds entries to [`RECEIPT_STREAM`] or [`CONVERSATION_CHECK_STREAM`]. One call for many, because a command costs its sender more than
/// an entry costs Redis.
///
/// Keys: the stream. Arguments: most entries kept, entries. Returns the id of the last.
pub const STREAM_ADD: &str = r"
local id
for i = 2, #ARGV do id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'r', ARGV[i]) end
return id
";

/// How far a consumer group has read a stream, and on which server.
///
/// Keys: the stream, its [`stream_birth_key`]. Arguments: the group, any text that no other caller gives. Returns three values.
/// The first identifies the data: the server's `run_id`, and the first text stored since the last flush. Both change when data may be
/// lost. The second is `upto` or `before`, and the third an id: all entries up to it, or before it, are acknowledged. Without such a group
/// they are `none` and empty.
pub const GROUP_PROGRESS: &str = r"
redis.call('SET', KEYS[2], ARGV[2], 'NX')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') .. ' ' .. redis.call('GET', KEYS[2])
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return {server, 'none', ''} end
for _, group in ipairs(groups) do
    local of = {}
    for i = 1, #group, 2 do of[group[i]] = group[i + 1] end
    if of.name == ARGV[1] then
        if of.pending == 0 then return {server, 'upto', of['last-delivered-id']} end
        return {server, 'before', redis.call('XPENDING', KEYS[1], ARGV[1])[2]}
    end
end
return {server, 'none', ''}
";

/// Adds entries to [`AUDIT_STREAM`](super::keys::AUDIT_STREAM), or fails if they exceed its capacity: no audit entry may
/// displace another.
///
/// Keys: [`AUDIT_STREAM`](super::keys::AUDIT_STREAM). Arguments: most entries kept, entries. Returns the id of the last.
pub const STREAM_ADD_OR_FAIL: &str = r"
if redis.call('XLEN', KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) then return redis.error_reply('FULL no room for entries') end
local id
for i = 2, #ARGV do id = redis.call('XADD', KEYS[1], '*', 'r', ARGV[i]) end
return id
";

/// The cursor of the newest entry of a log. Opens a missing log first, so that a cursor always names a position that existed:
/// if the log still holds it, no later event is missing.
///
/// A log is opened by a marker: a stream without an entry, whose last id is the cursor. (A stream with one entry takes ten
/// times the memory, because Redis reserves 4 KiB for its first block.) The marker is the predecessor of the first event.
///
/// Keys: log. Arguments: life of a log with events, life of one with its marker alone ([`MARKER_TTL_MILLIS`]), both in milliseconds.
/// Returns the cursor.
pub const LOG_TAIL: &str = r"
local call, log = redis.call, KEYS[1]
local last = call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
local id, life = last and last[1], ARGV[1]
if not last then
    life = ARGV[2]
    if call('EXISTS', log) == 1 then
        local info = call('XINFO', 'STREAM', log)
        for i = 1, #info, 2 do if info[i] == 'last-generated-id' then id = info[i + 1] end end
    else
        id = call('XADD', log, 'MAXLEN', '=', 0, '*', 's', '')
    end
end
call('PEXPIRE', log, life)
return id
";

/// The entries after a cursor. Reads a few entries at a time and stops at a number of bytes: a log may hold megabytes.
///
/// Keys: log. Arguments: cursor, most entries, most bytes of their headers and frames. Returns nil when the log does not hold the cursor,
/// 0 when more bytes follow it, or else four for each entry: its id and [`LOG_FIELDS`], nil for a field that it lacks.
pub const LOG_SINCE: &str = r"
local call, log, cursor = redis.call, KEYS[1], ARGV[1]
local most, bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
if not call('XRANGE', log, cursor, cursor)[1] then
    if call('EXISTS', log) == 0 or call('XLEN', log) > 0 then return false end
    local info = call('XINFO', 'STREAM', log)
    for i = 1, #info, 2 do if info[i] == 'last-generated-id' and info[i + 1] == cursor then return {} end end
    return false
end
local answer, from = {}, cursor
while #answer < 4 * most do
    local entries = call('XRANGE', log, '(' .. from, '+', 'COUNT', math.min(16, most - #answer / 4))
    for _, entry in ipairs(entries) do
        local of = {}
        for j = 1, #entry[2], 2 do of[entry[2][j]] = entry[2][j + 1] end
        bytes = bytes - #(of.h or '') - #(of.b or '')
        if bytes < 0 then return 0 end
        from = entry[1]
        for _, value in ipairs({from, of.t or false, of.h or false, of.b or false}) do answer[#answer + 1] = value end
    end
    if #entries < 16 then break end
end
return answer
";

/// The newest entries of a log, without message content.
///
/// Keys: log. Arguments: how many. Returns three for each entry: its id, its header, and for a receipt the rest of the frame.
pub const LOG_RECEIPTS: &str = r"
local answer, to, left = {}, '+', tonumber(ARGV[1])
while left > 0 do
    local entries = redis.call('XREVRANGE', KEYS[1], to, '-', 'COUNT', math.min(16, left))
    for _, entry in ipairs(entries) do
        local of = {t = '', h = '', b = ''}
        for j = 1, #entry[2], 2 do of[entry[2][j]] = entry[2][j + 1] end
        local is_receipt = of.t == 'delivered' or of.t == 'read'
        to = '(' .. entry[1]
        for _, value in ipairs({entry[1], of.h, is_receipt and of.b or ''}) do answer[#answer + 1] = value end
    end
    if #entries < 16 then break end
    left = left - #entries
end
return answer
";
