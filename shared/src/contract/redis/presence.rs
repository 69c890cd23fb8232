//! Who is online: names, and the scripts that work on them.
//!
//! All of a location is in one slot of a Redis Cluster, so that one script can say who has come or gone, and tell it. A
//! gateway writes when somebody comes or goes for good, and beside that only prolongs its lease: one command a location,
//! however many sockets it holds. When it dies its lease ends, and with it everybody's presence there.

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

    /// Where it is told, `presence:{LOCATION}`.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Sorted set of gateways, each with the moment at which its lease ends.
    #[must_use]
    pub fn leases(&self) -> String {
        format!("{}:gateways", self.channel)
    }

    /// Set of the people that one gateway holds sockets of.
    #[must_use]
    pub fn gateway_participants(&self, gateway: &str) -> String {
        format!("{}:at:{gateway}", self.channel)
    }

    /// Hash of one person: a field for each gateway that it is at, and since when it is as it is (`at`), and when it was seen
    /// last (`seen`).
    #[must_use]
    pub fn participant(&self, who: &Participant) -> String {
        format!("{}:{who}", self.channel)
    }
}

/// What the names begin with.
pub(super) const PRESENCE_PREFIX: &str = "presence:{";

/// The location whose presence is told on a channel; `None` when it is not such a channel.
#[must_use]
pub fn parse_location(channel: &str) -> Option<&str> {
    channel.strip_prefix(PRESENCE_PREFIX)?.strip_suffix('}')
}

/// For how long it is known when somebody was seen last: 30 days.
pub const LAST_SEEN_TTL_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// After which gateways write anew all that they hold, and twice which all that they wrote is gone: 24 hours.
pub const REWRITE_INTERVAL_MILLIS: u64 = 24 * 3600 * 1000;

/// What a gateway's scripts have in common: they prolong its lease, and tell who has come or gone. The clock is that of Redis,
/// which is one for all gateways.
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
    /// A script that says who has come to a gateway and who has left it, and tells the channel whose presence has changed by
    /// that. Prolongs the lease.
    ///
    /// Keys: leases, people of the gateway, then persons. Arguments: gateway, channel, length of the lease,
    /// [`LAST_SEEN_TTL_MILLIS`], twice [`REWRITE_INTERVAL_MILLIS`], then two for each person: its name, and nothing if it has come or for
    /// how many milliseconds it has been gone. Returns how many people the gateway holds.
    #[must_use]
    pub const fn presence_update_script(self) -> &'static str {
        match self {
            Self::Single => change!("PUBLISH"),
            Self::Cluster => change!("SPUBLISH"),
        }
    }

    /// A script that prolongs a gateway's lease, and sends away some of those who were at one whose lease has ended.
    ///
    /// Whom it sends away stands in Redis only, so their keys, and the dead gateway's, are made within the script and are not among its
    /// keys. A Redis Cluster asks that whatever a script touches be in the slot of its keys on the node that runs it. It is: every name
    /// begins with the location's hash tag, which [`PresenceKeys`] alone formats. A slot that is on its way to another node may lack a key
    /// here and have it there: the script fails then, and the next prolongation goes on. Whoever it had taken from the dead gateway's set
    /// by then is offline, as the lease has ended, and is not told.
    ///
    /// Keys: leases, people of the gateway. Arguments: gateway, channel, length of the lease, [`LAST_SEEN_TTL_MILLIS`], twice
    /// [`REWRITE_INTERVAL_MILLIS`], how many to send away at most, 0 for none. Returns how many people the gateway holds, and how
    /// many were sent away.
    #[must_use]
    pub const fn lease_renewal_script(self) -> &'static str {
        match self {
            Self::Single => refresh!("PUBLISH"),
            Self::Cluster => refresh!("SPUBLISH"),
        }
    }
}

/// A script that says who is online.
///
/// Keys: leases, then persons. Returns three numbers for each person: 1 if it is online; when it was seen last, if it is not
/// (milliseconds since 1970, or -1); for how many milliseconds it has been as it is (or -1).
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
    fn all_of_a_location_is_in_one_slot_and_nothing_of_two_is_alike() {
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
