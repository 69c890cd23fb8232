//! Who is online: names in Redis, and the scripts that work on them.
//!
//! All keys of a location share one slot of a Redis Cluster, so
//! that one script can update and announce presence. A gateway writes when a participant comes or goes, and otherwise only
//! renews its lease: one command per location. When a gateway dies its lease expires, and its participants go offline.

use crate::contract::ids::LocationId;
use crate::contract::participant::Participant;
use crate::kit::redis::Topology;

/// The names of a location's presence.
#[derive(Debug, Clone)]
pub struct PresenceKeys {
    channel: String,
}

impl PresenceKeys {
    /// Of this location.
    #[must_use]
    pub fn new(location: &LocationId) -> Self {
        Self { channel: format!("{PRESENCE_PREFIX}{location}}}") }
    }

    /// The channel that announces it, `presence:{LOCATION}`.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Sorted set of gateways, scored by the end of their leases.
    #[must_use]
    pub fn leases(&self) -> String {
        format!("{}:gateways", self.channel)
    }

    /// Set of the participants with sockets at one gateway.
    #[must_use]
    pub fn gateway_participants(&self, gateway: &str) -> String {
        format!("{}:at:{gateway}", self.channel)
    }

    /// Hash of one participant: a field per gateway with a socket of it, the time of its last change (`at`), and its last-seen
    /// time (`seen`).
    #[must_use]
    pub fn participant(&self, who: &Participant) -> String {
        format!("{}:{who}", self.channel)
    }
}

/// What the names begin with.
pub(super) const PRESENCE_PREFIX: &str = "presence:{";

/// The location of a presence channel; `None` for another channel.
#[must_use]
pub fn parse_location(channel: &str) -> Option<&str> {
    channel.strip_prefix(PRESENCE_PREFIX)?.strip_suffix('}')
}

/// How long Redis keeps the last-seen time of a participant: 30 days.
pub const LAST_SEEN_TTL_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// Interval at which gateways write all their participants again: 24 hours. Their keys live twice as long.
pub const REWRITE_INTERVAL_MILLIS: u64 = 24 * 3600 * 1000;

/// Common part of the gateways' scripts: renews the lease, and announces changes. The clock is that of Redis, so it is the same
/// for all gateways.
macro_rules! script {
    ($publish:literal, $body:literal) => {
        concat!(
            r#"
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leases, people, gateway, channel = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
call('ZADD', leases, now + ARGV[3], gateway)
call('PEXPIRE', leases, ARGV[5])
local function is_online(person)
    for _, field in ipairs(call('HKEYS', person)) do
        local ends = field ~= 'at' and field ~= 'seen' and call('ZSCORE', leases, field)
        if ends and tonumber(ends) > now then return true end
    end
    return false
end
local function tell(what) call('"#,
            $publish,
            r#"', channel, what .. '\n') end
local function gone(person, who, seen)
    seen = math.max(seen, call('HGET', person, 'seen') or 0)
    call('HSET', person, 'seen', seen, 'at', now)
    call('PEXPIRE', person, ARGV[4])
    tell('! ' .. who .. ' 0 ' .. seen)
end
"#,
            $body
        )
    };
}

macro_rules! change {
    ($publish:literal) => {
        script!(
            $publish,
            r#"
for i = 3, #KEYS do
    local person, who, left = KEYS[i], ARGV[2 * i], ARGV[2 * i + 1]
    if left == '' then
        local was = is_online(person)
        call('SADD', people, who)
        call('HSET', person, gateway, '')
        call('PEXPIRE', person, ARGV[4])
        if not was then
            call('HSET', person, 'at', now)
            tell('! ' .. who .. ' 1')
        end
    else
        call('SREM', people, who)
        if call('HDEL', person, gateway) == 1 and not is_online(person) then
            gone(person, who, now - left)
        end
    end
end
call('PEXPIRE', people, ARGV[5])
return call('SCARD', people)
"#
        )
    };
}

macro_rules! refresh {
    ($publish:literal) => {
        script!(
            $publish,
            r#"
call('PEXPIRE', people, ARGV[5])
local held, swept = call('SCARD', people), 0
for _, dead in ipairs(call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1)) do
    local theirs = channel .. ':at:' .. dead
    local ended = call('ZSCORE', leases, dead)
    local some = tonumber(ARGV[6]) > 0 and call('SPOP', theirs, ARGV[6]) or {}
    for _, who in ipairs(some) do
        local person = channel .. ':' .. who
        if call('HDEL', person, dead) == 1 and not is_online(person) then
            gone(person, who, ended)
        end
    end
    if #some < tonumber(ARGV[6]) then call('ZREM', leases, dead) end
    swept = #some
end
return {held, swept}
"#
        )
    };
}

impl Topology {
    /// Records which participants came to a gateway and which left it, announces each change of presence on the channel, and
    /// renews the lease.
    ///
    /// Keys: leases, participants of the gateway, then the changed participants. Arguments: gateway, channel, lease in
    /// milliseconds, [`LAST_SEEN_TTL_MILLIS`], twice [`REWRITE_INTERVAL_MILLIS`], then two per changed participant: its name,
    /// and either nothing if it came or the milliseconds since it left. Returns how many participants the gateway holds.
    #[must_use]
    pub const fn presence_update_script(self) -> &'static str {
        match self {
            Self::Single => change!("PUBLISH"),
            Self::Cluster => change!("SPUBLISH"),
        }
    }

    /// Renews a gateway's lease, and removes some participants of one gateway whose lease has expired.
    ///
    /// The removed participants are known in Redis only. So the script forms their keys, and those of the expired gateway; they
    /// are not among its declared keys. A Cluster requires that all keys of a script are in one slot: every name begins with
    /// the location's hash tag, which only [`PresenceKeys`] formats. While a slot migrates, a key may be on the other node.
    /// Then the script fails, and the next renewal continues. Participants that it had already taken from the set are offline,
    /// because the lease has expired, but no notice is sent.
    ///
    /// Keys: leases, participants of the gateway. Arguments: gateway, channel, lease in milliseconds, [`LAST_SEEN_TTL_MILLIS`],
    /// twice [`REWRITE_INTERVAL_MILLIS`], how many participants to remove at most (0 for none). Returns how many participants
    /// the gateway holds, and how many were removed.
    #[must_use]
    pub const fn lease_renewal_script(self) -> &'static str {
        match self {
            Self::Single => refresh!("PUBLISH"),
            Self::Cluster => refresh!("SPUBLISH"),
        }
    }
}

/// Looks up presence.
///
/// Keys: leases, then participants. Returns three numbers per participant: 1 if it is online; its last-seen time if it is
/// offline (milliseconds since 1970, or -1); for how many milliseconds it has been so (or -1).
pub const PRESENCE_LOOKUP: &str = r"
local call, max = redis.call, math.max
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answer = {}
for i = 2, #KEYS do
    local online, seen, at = 0, -1, -1
    local fields = call('HGETALL', KEYS[i])
    for j = 1, #fields, 2 do
        local name, value = fields[j], fields[j + 1]
        if name == 'seen' then seen = max(seen, value)
        elseif name == 'at' then at = max(at, value)
        else
            local ends = tonumber(call('ZSCORE', KEYS[1], name) or -1)
            if ends > now then online = 1 elseif ends > 0 then seen, at = max(seen, ends), max(at, ends) end
        end
    end
    if online == 1 then seen = -1 end
    answer[#answer + 1] = online
    answer[#answer + 1] = seen
    answer[#answer + 1] = at < 0 and -1 or now - at
end
return answer
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_keys_share_a_slot_and_are_distinct() {
        let names = PresenceKeys::new(&"loc1".parse().unwrap());
        assert_eq!(names.channel(), "presence:{loc1}");
        assert_eq!(parse_location(names.channel()), Some("loc1"));
        let all = [
            names.leases(),
            names.gateway_participants("7f"),
            names.participant(&"user:7f".parse().unwrap()),
            names.participant(&"contact:7f".parse().unwrap()),
        ];
        assert_eq!(all[3], "presence:{loc1}:contact:7f");
        for name in &all {
            assert!(name.starts_with("presence:{loc1}:") && parse_location(name).is_none(), "{name}");
            assert_eq!(all.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
        assert_eq!(parse_location("chat:{loc1}"), None);
    }
}
