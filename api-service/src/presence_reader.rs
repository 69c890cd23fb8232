//! Who is online, as Redis has it from the gateways.

use std::collections::HashMap;

use bytes::Bytes;
use fred::error::Error;
use fred::types::Value;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use shared::channel::presence::{Names, WHO_IS_ONLINE};
use shared::channel::{RENAME_WRONG_TYPE, moved_suffix};
use shared::ids::LocationId;
use shared::participant::Participant;
use shared::presence::{Notice, Presence, Question};
use shared::redis::Nodes;

const NO_ARGS: [Value; 0] = [];

/// Redis is out of reach, and nobody else knows.
#[derive(Debug, thiserror::Error)]
#[error("redis: {0}")]
pub struct Unknown(#[from] Error);

/// Knows who is online.
#[derive(Clone)]
pub struct Everybody {
    redis: Nodes,
    who: Script,
    tell: Script,
    rename: Script,
}

impl Everybody {
    /// Asks and tells through this Redis.
    #[must_use]
    pub fn new(redis: Nodes) -> Self {
        let topology = redis.topology();
        let [who, tell, rename] =
            [WHO_IS_ONLINE, topology.publish_ephemeral_script(), RENAME_WRONG_TYPE].map(Script::from_lua);
        Self { redis, who, tell, rename }
    }

    /// Each one's presence, in their order.
    ///
    /// # Errors
    /// [`Unknown`]
    pub async fn presence(&self, location: &LocationId, people: &[Participant]) -> Result<Vec<Presence>, Unknown> {
        if people.is_empty() {
            return Ok(Vec::new());
        }
        let names = Names::of(location);
        let keys: Vec<String> =
            [names.leases()].into_iter().chain(people.iter().map(|who| names.person(who))).collect();
        let answer: Vec<i64> = match self.redis.run(&self.who, Vec::clone(&keys), NO_ARGS).await {
            // Of another type, one key would hide a whole list: it is moved out of the way, and gateways write anew what it was.
            Err(error) if error.details().contains("WRONGTYPE") => {
                let types = std::iter::once("zset").chain(std::iter::repeat("hash")).take(keys.len());
                let args = types.map(Value::from).chain([moved_suffix().into()]);
                let moved: Vec<String> = self.redis.run(&self.rename, keys.clone(), args).await?;
                metrics::counter!("redis_keys_moved_total", "key" => "presence").increment(moved.len() as u64);
                // Their names say who is a patient here.
                tracing::error!(%location, moved = moved.len(), "keys of presence were of another type and are moved");
                self.redis.run(&self.who, keys, NO_ARGS).await?
            }
            done => done?,
        };
        Ok(answer.chunks_exact(3).map(|of| Presence::read(of[0], of[1])).collect())
    }

    /// Tells gateways that the participants of these conversations may know of each other.
    ///
    /// # Errors
    /// [`Unknown`], when some of them may not have been told.
    pub async fn may_know(&self, conversations: &[&Question]) -> Result<(), Unknown> {
        let mut by_location: HashMap<&LocationId, Vec<&Question>> = HashMap::new();
        for question in conversations {
            by_location.entry(&question.location).or_default().push(question);
        }
        let telling = by_location.into_iter().flat_map(|(location, questions)| {
            let channel = Names::of(location).channel().to_owned();
            questions.into_iter().map(move |question| {
                let notice = Bytes::from(Notice::shared(question.conversation));
                let channel = channel.clone();
                async move { self.redis.run::<Value>(&self.tell, [channel], [notice]).await }
            })
        });
        // A location whose node is down keeps no other from being told.
        join_all(telling).await.into_iter().try_for_each(|told| told.map(drop))?;
        Ok(())
    }
}
