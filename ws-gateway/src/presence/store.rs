//! Presence in Redis: leases and participants per gateway, and the presence of each participant.

use std::collections::BTreeSet;
use std::time::Duration;

use fred::error::Error;
use fred::types::scripts::Script;
use fred::types::{FromValue, Value};
use metrics::counter;
use shared::contract::ids::LocationId;
use shared::contract::presence::Presence;
use shared::contract::redis::presence::{LAST_SEEN_TTL_MILLIS, PRESENCE_LOOKUP, PresenceKeys, REWRITE_INTERVAL_MILLIS};
use shared::contract::redis::{keys, scripts};

use super::local::PresenceUpdate;
use super::watchlist::Lookup;
use crate::redis::RedisNodes;

/// Types of a location's first keys: leases, and participants of a gateway.
const LOCATION_KEY_TYPES: &[&str] = &["zset", "set"];

/// Type of a participant's key.
const PARTICIPANT_KEY_TYPE: &str = "hash";

/// A location and the incarnation of this gateway's lease there.
pub(super) struct LeaseId {
    pub(super) location: LocationId,
    pub(super) incarnation: u32,
}

/// The kinds of moved keys, each once.
fn describe_moved(types: &[&'static str], keys: &[String], moved: &[String]) -> BTreeSet<&'static str> {
    let moved = types.iter().zip(keys).filter(|(_, key)| moved.contains(key));
    moved
        .map(|(of, _)| match *of {
            "zset" => "leases",
            "set" => "participants of a gateway",
            _ => "participant",
        })
        .collect()
}

/// Runs the presence scripts.
pub(super) struct PresenceStore {
    redis: RedisNodes,
    /// Unique id of this gateway process.
    gateway: String,
    change: Script,
    renew: Script,
    lookup_script: Script,
    rename: Script,
    /// Duration of a lease.
    lease: Duration,
}

impl PresenceStore {
    pub(super) fn new(redis: RedisNodes, lease: Duration) -> Self {
        let topology = redis.topology();
        let [change, renew, lookup_script, rename] = [
            topology.presence_update_script(),
            topology.lease_renewal_script(),
            PRESENCE_LOOKUP,
            scripts::RENAME_WRONG_TYPE,
        ]
        .map(Script::from_lua);
        Self { redis, gateway: uuid::Uuid::now_v7().simple().to_string(), change, renew, lookup_script, rename, lease }
    }

    /// The first keys and arguments of `Topology::presence_update_script` and `Topology::lease_renewal_script`.
    fn common_arguments(&self, lease_id: &LeaseId, lease: Duration) -> (PresenceKeys, Vec<String>, Vec<Value>) {
        let (lease_ids, gateway) =
            (PresenceKeys::new(&lease_id.location), format!("{}-{}", self.gateway, lease_id.incarnation));
        let keys = vec![lease_ids.leases(), lease_ids.gateway_participants(&gateway)];
        let arguments = [
            gateway,
            lease_ids.channel().to_owned(),
            lease.as_millis().to_string(),
            LAST_SEEN_TTL_MILLIS.to_string(),
            (2 * REWRITE_INTERVAL_MILLIS).to_string(),
        ];
        (lease_ids, keys, arguments.into_iter().map(Value::from).collect())
    }

    /// Runs a script on keys of `types`, followed by hashes. A key of another type would block the whole location, so
    /// it is renamed. Its content is written again.
    async fn run<T: FromValue>(
        &self,
        location: &LocationId,
        script: &Script,
        types: &[&'static str],
        keys: Vec<String>,
        arguments: &[Value],
    ) -> Result<T, Error> {
        match self.redis.run_script(script, keys.clone(), arguments.iter().cloned()).await {
            Err(error) if error.details().contains("WRONGTYPE") => {
                let types: Vec<_> =
                    types.iter().copied().chain(std::iter::repeat(PARTICIPANT_KEY_TYPE)).take(keys.len()).collect();
                let moving: Vec<Value> =
                    types.iter().copied().map(Value::from).chain([keys::moved_suffix().into()]).collect();
                let moved: Vec<String> = self.redis.run_script(&self.rename, keys.clone(), moving).await?;
                counter!("ehr_chat_redis_keys_moved_total", "key" => "presence").increment(moved.len() as u64);
                // The names of these keys would identify patients.
                for kind in describe_moved(&types, &keys, &moved) {
                    tracing::error!(%location, kind, "presence key of another type renamed");
                }
                self.redis.run_script(script, keys, arguments.iter().cloned()).await
            }
            done => done,
        }
    }

    /// Writes participants as online or offline.
    pub(super) async fn apply_updates(&self, lease_id: &LeaseId, updates: &[PresenceUpdate]) -> Result<(), Error> {
        let (lease_ids, mut keys, mut arguments) = self.common_arguments(lease_id, self.lease);
        for PresenceUpdate { participant, left } in updates {
            keys.push(lease_ids.participant(participant));
            arguments.push(participant.to_string().into());
            arguments.push(left.map_or(String::new(), |left| left.elapsed().as_millis().to_string()).into());
        }
        self.run::<Value>(&lease_id.location, &self.change, LOCATION_KEY_TYPES, keys, &arguments).await.map(drop)
    }

    /// Renews a lease for `lease`. Expires at most `max_expired` participants of gateways without a lease. Returns
    /// how many participants this gateway has, and how many expired.
    pub(super) async fn renew_lease(
        &self,
        lease_id: &LeaseId,
        lease: Duration,
        max_expired: usize,
    ) -> Result<(usize, usize), Error> {
        let (_, keys, mut arguments) = self.common_arguments(lease_id, lease);
        arguments.push(max_expired.to_string().into());
        self.run(&lease_id.location, &self.renew, LOCATION_KEY_TYPES, keys, &arguments).await
    }

    /// The presence of watched participants, and for how long it has been so.
    pub(super) async fn look_up(
        &self,
        location: &LocationId,
        lookups: &[Lookup],
    ) -> Result<Vec<(Presence, Option<Duration>)>, Error> {
        let lease_ids = PresenceKeys::new(location);
        let keys: Vec<_> = [lease_ids.leases()]
            .into_iter()
            .chain(lookups.iter().map(|lookup| lease_ids.participant(&lookup.participant)))
            .collect();
        let reply: Vec<i64> = self.run(location, &self.lookup_script, &LOCATION_KEY_TYPES[..1], keys, &[]).await?;
        let results = reply.chunks_exact(3).map(|of| {
            let lasts = u64::try_from(of[2]).ok().map(Duration::from_millis);
            (Presence::from_lookup(of[0], of[1]), lasts)
        });
        Ok(results.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_of_renamed_keys_names_no_participant() {
        let lease_ids = PresenceKeys::new(&"loc1".parse().unwrap());
        let keys = [
            lease_ids.leases(),
            lease_ids.gateway_participants("g"),
            lease_ids.participant(&"contact:pat456".parse().unwrap()),
        ];
        let types = ["zset", "set", PARTICIPANT_KEY_TYPE];
        let described = |moved: &[String]| describe_moved(&types, &keys, moved).into_iter().collect::<Vec<_>>();
        assert_eq!(described(&keys), ["leases", "participant", "participants of a gateway"]);
        assert_eq!(described(&keys[2..]), ["participant"]);
        assert!(described(&[]).is_empty());
    }
}
