//! What stands in Redis of who is online: this gateway's own people and lease, and everybody's presence.

use std::collections::BTreeSet;
use std::time::Duration;

use fred::error::Error;
use fred::types::scripts::Script;
use fred::types::{FromValue, Value};
use metrics::counter;
use shared::channel;
use shared::channel::presence::{Names, SEEN_KEPT_MILLIS, WHO_IS_ONLINE, WRITTEN_KEPT_MILLIS};
use shared::ids::LocationId;
use shared::presence::Presence;

use super::local::Change;
use super::watchlist::Look;
use crate::redis::Nodes;

/// Types of a location's keys that come before those of persons: leases, and the people of a gateway.
const OWN: &[&str] = &["zset", "set"];

/// The type of the key of a person.
const PERSON: &str = "hash";

/// A location, and the name under which this gateway's people are written down there.
pub(super) struct Name {
    pub(super) location: LocationId,
    pub(super) incarnation: u32,
}

/// What kinds of keys were moved, each once.
fn kinds(types: &[&'static str], keys: &[String], moved: &[String]) -> BTreeSet<&'static str> {
    let moved = types.iter().zip(keys).filter(|(_, key)| moved.contains(key));
    moved
        .map(|(of, _)| match *of {
            "zset" => "leases",
            "set" => "people of a gateway",
            _ => "person",
        })
        .collect()
}

/// What stands in Redis.
pub(super) struct Ledger {
    redis: Nodes,
    /// This gateway, from its start to its end.
    gateway: String,
    change: Script,
    prolong: Script,
    who: Script,
    rename: Script,
    /// For how long a lease is given.
    lease: Duration,
}

impl Ledger {
    pub(super) fn new(redis: Nodes, lease: Duration) -> Self {
        let topology = redis.topology();
        let [change, prolong, who, rename] =
            [topology.presence_script(), topology.lease_script(), WHO_IS_ONLINE, channel::RENAME_WRONG_TYPE]
                .map(Script::from_lua);
        Self { redis, gateway: uuid::Uuid::now_v7().simple().to_string(), change, prolong, who, rename, lease }
    }

    /// What `Topology::presence_script` and `Topology::lease_script` take first.
    fn beginning(&self, name: &Name, lease: Duration) -> (Names, Vec<String>, Vec<Value>) {
        let (names, gateway) = (Names::of(&name.location), format!("{}-{}", self.gateway, name.incarnation));
        let keys = vec![names.leases(), names.people(&gateway)];
        let arguments = [
            gateway,
            names.channel().to_owned(),
            lease.as_millis().to_string(),
            SEEN_KEPT_MILLIS.to_string(),
            (2 * WRITTEN_KEPT_MILLIS).to_string(),
        ];
        (names, keys, arguments.into_iter().map(Value::from).collect())
    }

    /// Runs a script on keys of the `types`, and hashes behind them. A key of another type, which would stop a whole location,
    /// is moved out of the way; what it should hold is written anew.
    async fn ask<T: FromValue>(
        &self,
        location: &LocationId,
        script: &Script,
        types: &[&'static str],
        keys: Vec<String>,
        arguments: &[Value],
    ) -> Result<T, Error> {
        match self.redis.run(script, keys.clone(), arguments.iter().cloned()).await {
            Err(error) if error.details().contains("WRONGTYPE") => {
                let types: Vec<_> = types.iter().copied().chain(std::iter::repeat(PERSON)).take(keys.len()).collect();
                let moving: Vec<Value> =
                    types.iter().copied().map(Value::from).chain([channel::moved_suffix().into()]).collect();
                let moved: Vec<String> = self.redis.run(&self.rename, keys.clone(), moving).await?;
                counter!("redis_keys_moved_total", "key" => "presence").increment(moved.len() as u64);
                // Their names say who is a patient here.
                for kind in kinds(&types, &keys, &moved) {
                    tracing::error!(%location, kind, "a key of presence was of another type and is moved");
                }
                self.redis.run(script, keys, arguments.iter().cloned()).await
            }
            done => done,
        }
    }

    /// Somebody has come or gone.
    pub(super) async fn change(&self, name: &Name, changes: &[Change]) -> Result<(), Error> {
        let (names, mut keys, mut arguments) = self.beginning(name, self.lease);
        for Change { who, left } in changes {
            keys.push(names.person(who));
            arguments.push(who.to_string().into());
            arguments.push(left.map_or(String::new(), |left| left.elapsed().as_millis().to_string()).into());
        }
        self.ask::<Value>(&name.location, &self.change, OWN, keys, &arguments).await.map(drop)
    }

    /// This gateway lives, for `lease` from now on. Sends away at most `sweep` of those whose gateway does not. Returns how many
    /// people it holds itself, and how many were sent away.
    pub(super) async fn prolong(&self, name: &Name, lease: Duration, sweep: usize) -> Result<(usize, usize), Error> {
        let (_, keys, mut arguments) = self.beginning(name, lease);
        arguments.push(sweep.to_string().into());
        self.ask(&name.location, &self.prolong, OWN, keys, &arguments).await
    }

    /// Everybody's presence, and for how long it has been so.
    pub(super) async fn who_is_online(
        &self,
        location: &LocationId,
        looks: &[Look],
    ) -> Result<Vec<(Presence, Option<Duration>)>, Error> {
        let names = Names::of(location);
        let keys: Vec<_> =
            [names.leases()].into_iter().chain(looks.iter().map(|look| names.person(&look.who))).collect();
        let answer: Vec<i64> = self.ask(location, &self.who, &OWN[..1], keys, &[]).await?;
        let seen = answer.chunks_exact(3).map(|of| {
            let lasts = u64::try_from(of[2]).ok().map(Duration::from_millis);
            (Presence::from_lookup(of[0], of[1]), lasts)
        });
        Ok(seen.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_keys_that_were_moved_names_no_person() {
        let names = Names::of(&"loc1".parse().unwrap());
        let keys = [names.leases(), names.people("g"), names.person(&"contact:pat456".parse().unwrap())];
        let types = ["zset", "set", PERSON];
        let said = |moved: &[String]| kinds(&types, &keys, moved).into_iter().collect::<Vec<_>>();
        assert_eq!(said(&keys), ["leases", "people of a gateway", "person"]);
        assert_eq!(said(&keys[2..]), ["person"]);
        assert!(said(&[]).is_empty());
    }
}
