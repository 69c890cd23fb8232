//! The copy of the revocations in Redis, [`REVOCATIONS_KEY`]: how the API service writes it, and how gateways read it.
//!
//! It is one sorted set. Members are revocations ([`crate::contract::revocation::RevocationEntry`]). The score is their order,
//! so a reader continues after the score that it has read. One more member, at score `-inf`, is the *marker*. It says that the
//! copy is complete, and of what. Without it, an empty Redis would look like one in which no token is revoked.
//!
//! The marker is a member of the set, so what removes the set (`FLUSHALL`, eviction, `DEL`) removes it as well. It is written
//! in the same step as the members, and it names
//!
//! - the *epoch*: it changes when the copy is written again from the start, so that a reader starts again as well,
//! - the newest row of PostgreSQL that is in it, by position and time of creation,
//! - how many members there are: a set that lost some is not complete,
//! - the run of the Redis server that took it: a server that came back with what it had on disk, and a replica that was promoted,
//!   may hold an older copy, and have another run,
//! - from when on it counts, and when an API service confirmed it last, both by the clock of that server.
//!
//! A gateway that starts accepts a copy only if all of that is in order ([`READ`]).

use super::keys::REVOCATIONS_KEY;

/// Between two confirmations of a copy that has not changed, in milliseconds.
pub const CONFIRM_INTERVAL_MS: u32 = 1_000;
/// A copy that no API service has confirmed for so long is not accepted by a gateway that starts, in milliseconds.
pub const CONFIRMATION_TTL_MS: u32 = 10_000;
/// How long a copy does not count yet that was written by an API service without contact to PostgreSQL, in milliseconds: one
/// that knows more adds it within this time.
pub const SETTLE_DELAY_MS: u32 = 1_000;

/// Where a new copy is written before it takes the place of the old one. In the slot of [`REVOCATIONS_KEY`].
#[must_use]
pub fn draft_key(epoch: &str) -> String {
    format!("{{{REVOCATIONS_KEY}}}:{epoch}")
}

/// What every script below begins with. `marker()` is nil when there is none, `is_whole` says whether the copy is the one that
/// the marker was written for, on the server that it was written on.
macro_rules! script {
    ($body:literal) => {
        concat!(
            r"
local key, call, floor, match = KEYS[1], redis.call, math.floor, string.match
local function now()
    local time = call('TIME')
    return time[1] * 1000 + floor(time[2] / 1000)
end
local function run()
    local info = redis.pcall('INFO', 'server')
    return type(info) == 'string' and match(info, 'run_id:(%w+)') or '-'
end
local function marker()
    if call('TYPE', key).ok ~= 'zset' then return nil end
    local member = call('ZRANGEBYSCORE', key, '-inf', '-inf', 'LIMIT', 0, 1)[1]
    if not member then return nil end
    local epoch, position, stamp, count, server, since, confirmed =
        match(member, '^m (%S+) (%d+) (%d+) (%d+) (%S+) (%d+) (%d+)$')
    if not epoch then return nil end
    return { epoch = epoch, position = tonumber(position), stamp = stamp, since = tonumber(since),
        confirmed = tonumber(confirmed), server = server,
        is_whole = server == run() and tonumber(count) == call('ZCARD', key) - 1 }
end
local function mark(epoch, position, stamp, since, confirmed)
    call('ZREMRANGEBYSCORE', key, '-inf', '-inf')
    local text = { 'm', epoch, string.format('%.0f', position), stamp, call('ZCARD', key), run(),
        string.format('%.0f', since), string.format('%.0f', confirmed) }
    call('ZADD', key, '-inf', table.concat(text, ' '))
end
",
            $body
        )
    };
}

/// Compares the copy with what an API service knows, and confirms it when they are the same.
///
/// Keys: [`REVOCATIONS_KEY`]. Arguments: position and stamp of the newest row that is known, 1 or 0 for contact to PostgreSQL,
/// [`CONFIRM_INTERVAL_MS`]. Returns a word, and unless it is `none` the marker's epoch, position and stamp, and the number of
/// members: `same`; `behind` when the copy lacks rows; `ahead` when it has rows that are not known, or others; `none` when
/// there is no complete copy.
pub const COMPARE: &str = script!(
    r"
local m = marker()
if not m then return {'none', '', '', '', 0} end
local words = {m.epoch, string.format('%.0f', m.position), m.stamp, call('ZCARD', key) - 1}
if not m.is_whole then return {'none', unpack(words)} end
local position = tonumber(ARGV[1])
if m.position < position then return {'behind', unpack(words)} end
if m.position > position or m.stamp ~= ARGV[2] then return {'ahead', unpack(words)} end
local time, since = now(), m.since
if ARGV[3] == '1' then since = math.min(since, time) end
if since ~= m.since or time - m.confirmed >= tonumber(ARGV[4]) or time < m.confirmed then
    mark(m.epoch, m.position, m.stamp, since, time)
end
return {'same', unpack(words)}
"
);

/// Adds rows that the copy lacks, if it is still the one that was compared.
///
/// Keys: [`REVOCATIONS_KEY`]. Arguments: epoch, position and stamp of the copy; position and stamp afterwards; 1 or 0 for contact to
/// PostgreSQL; then scores and members. Returns 1 when it was done.
pub const APPEND: &str = script!(
    r"
local m = marker()
if not m or not m.is_whole or m.epoch ~= ARGV[1] or m.position ~= tonumber(ARGV[2]) or m.stamp ~= ARGV[3] then return 0 end
for i = 7, #ARGV, 2 do call('ZADD', key, ARGV[i], ARGV[i + 1]) end
local time = now()
local since = ARGV[6] == '1' and math.min(m.since, time) or m.since
mark(m.epoch, tonumber(ARGV[4]), ARGV[5], since, time)
return 1
"
);

/// Writes a part of a new copy. It goes away by itself when it is not finished.
///
/// Keys: [`draft_key`]. Arguments: its life in milliseconds, then scores and members.
pub const FILL: &str = r"
for i = 2, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
";

/// Puts a new copy in the place of the old one, unless the new one is not whole, or another has taken that place meanwhile.
///
/// Keys: [`REVOCATIONS_KEY`], [`draft_key`]. Arguments: the epoch of the copy that is to be replaced, or nothing where no complete one was
/// found; the new epoch; position and stamp of the newest row; the number of members; 1 or 0 for contact to PostgreSQL;
/// [`SETTLE_DELAY_MS`]. Returns 1 when it was done.
pub const REPLACE: &str = script!(
    r"
local m = marker()
local is_replaceable = not m or not m.is_whole or m.epoch == ARGV[1]
if not is_replaceable or call('ZCARD', KEYS[2]) ~= tonumber(ARGV[5]) then
    call('UNLINK', KEYS[2])
    return 0
end
call('UNLINK', key)
if ARGV[5] ~= '0' then
    call('RENAME', KEYS[2], key)
    call('PERSIST', key)
end
local time = now()
mark(ARGV[2], tonumber(ARGV[3]), ARGV[4], time + (ARGV[6] == '1' and 0 or tonumber(ARGV[7])), time)
return 1
"
);

/// Takes members out whose tokens have ended.
///
/// Keys: [`REVOCATIONS_KEY`]. Arguments: members.
pub const REMOVE: &str = script!(
    r"
local m = marker()
if not m or not m.is_whole then return 0 end
local removed = call('ZREM', key, unpack(ARGV))
if removed > 0 then mark(m.epoch, m.position, m.stamp, m.since, m.confirmed) end
return removed
"
);

/// Reads the members after a score.
///
/// Keys: [`REVOCATIONS_KEY`]. Arguments: the epoch in which the reader has read, and the score up to which; the most members; 1 when
/// the reader must know that the copy is complete, because it knows nothing yet; [`CONFIRMATION_TTL_MS`]. Returns the epoch, empty
/// when there is no copy that will do, and then members and scores in turn. When the epoch is another one, they begin at the
/// beginning.
pub const READ: &str = script!(
    r"
local m = marker()
if not m then return {''} end
if ARGV[4] == '1' then
    local time = now()
    if not m.is_whole or time < m.since or time - m.confirmed > tonumber(ARGV[5]) then return {''} end
end
local after = m.epoch == ARGV[1] and ARGV[2] or '-inf'
return {m.epoch, unpack(call('ZRANGEBYSCORE', key, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3]))}
"
);
