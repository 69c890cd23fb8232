//! Reads presence, which the gateways write to Redis, and announces shared conversations to them.

use std::collections::HashMap;

use bytes::Bytes;
use fred::error::Error;
use fred::types::Value;
use fred::types::scripts::Script;
use futures_util::future::join_all;
use shared::contract::ids::LocationId;
use shared::contract::participant::Participant;
use shared::contract::presence::{ConversationCheck, Notice, Presence};
use shared::contract::redis::keys::moved_suffix;
use shared::contract::redis::presence::{PRESENCE_LOOKUP, PresenceKeys};
use shared::contract::redis::scripts::RENAME_WRONG_TYPE;
use shared::kit::redis::RedisNodes;

const NO_ARGS: [Value; 0] = [];

/// Presence is unavailable: Redis did not answer.
#[derive(Debug, thiserror::Error)]
#[error("redis: {0}")]
pub struct PresenceError(#[from] Error);

/// Reads presence.
#[derive(Clone)]
pub struct PresenceReader {
    redis: RedisNodes,
    lookup: Script,
    publish: Script,
    rename: Script,
}

impl PresenceReader {
    /// Uses this Redis.
    #[must_use]
    pub fn new(redis: RedisNodes) -> Self {
        let topology = redis.topology();
        let [lookup, publish, rename] =
            [PRESENCE_LOOKUP, topology.publish_ephemeral_script(), RENAME_WRONG_TYPE].map(Script::from_lua);
        Self { redis, lookup, publish, rename }
    }

    /// The presence of each participant, in their order.
    ///
    /// # Errors
    /// [`PresenceError`]
    pub async fn presence(
        &self,
        location: &LocationId,
        participants: &[Participant],
    ) -> Result<Vec<Presence>, PresenceError> {
        if participants.is_empty() {
            return Ok(Vec::new());
        }
        let names = PresenceKeys::new(location);
        let keys: Vec<String> = [names.leases()]
            .into_iter()
            .chain(participants.iter().map(|participant| names.participant(participant)))
            .collect();
        let answer: Vec<i64> = match self.redis.run_script(&self.lookup, Vec::clone(&keys), NO_ARGS).await {
            // One key of another type would hide the whole list. It is renamed, and gateways write it again.
            Err(error) if error.details().contains("WRONGTYPE") => {
                let types = std::iter::once("zset").chain(std::iter::repeat("hash")).take(keys.len());
                let args = types.map(Value::from).chain([moved_suffix().into()]);
                let moved: Vec<String> = self.redis.run_script(&self.rename, keys.clone(), args).await?;
                metrics::counter!("ehr_chat_redis_keys_moved_total", "key" => "presence").increment(moved.len() as u64);
                // The keys are not logged: their names identify patients.
                tracing::error!(%location, moved = moved.len(), "presence keys of wrong type renamed");
                self.redis.run_script(&self.lookup, keys, NO_ARGS).await?
            }
            done => done?,
        };
        Ok(answer.chunks_exact(3).map(|fields| Presence::from_lookup(fields[0], fields[1])).collect())
    }

    /// Announces to the gateways that these conversations have a message, so both participants may see each other's presence.
    ///
    /// # Errors
    /// [`PresenceError`], when some announcements may be lost.
    pub async fn announce_shared(&self, conversations: &[&ConversationCheck]) -> Result<(), PresenceError> {
        let mut by_location: HashMap<&LocationId, Vec<&ConversationCheck>> = HashMap::new();
        for question in conversations {
            by_location.entry(&question.location).or_default().push(question);
        }
        let publishing = by_location.into_iter().flat_map(|(location, questions)| {
            let channel = PresenceKeys::new(location).channel().to_owned();
            questions.into_iter().map(move |question| {
                let notice = Bytes::from(Notice::conversation_exists(question.conversation));
                let channel = channel.clone();
                async move { self.redis.run_script::<Value>(&self.publish, [channel], [notice]).await }
            })
        });
        // Concurrent, so a node that is down delays no other location.
        join_all(publishing).await.into_iter().try_for_each(|published| published.map(drop))?;
        Ok(())
    }
}
