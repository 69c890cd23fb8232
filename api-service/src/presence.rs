//! Who is online, as Redis has it from the gateways.

use std::collections::HashMap;

use bytes::Bytes;
use fred::prelude::*;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;
use shared::channel::presence::{Names, WHO_IS_ONLINE};
use shared::channel::{RENAME_WRONG_TYPE, Topology, moved_suffix};
use shared::ids::LocationId;
use shared::participant::Participant;
use shared::presence::{Notice, Presence, Question};

use crate::redis::run;

/// Redis is out of reach, and nobody else knows.
#[derive(Debug, thiserror::Error)]
#[error("redis: {0}")]
pub struct Unknown(#[from] Error);

/// Knows who is online.
#[derive(Clone)]
pub struct Everybody {
    client: Client,
    who: Script,
    tell: Script,
    rename: Script,
}

impl Everybody {
    /// Asks and tells through this Redis.
    #[must_use]
    pub fn new(client: Client, topology: Topology) -> Self {
        let [who, tell, rename] =
            [WHO_IS_ONLINE, topology.publish_ephemeral_script(), RENAME_WRONG_TYPE].map(Script::from_lua);
        Self { client, who, tell, rename }
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
        let answer: Vec<i64> = match run(&self.client, &self.who, Vec::clone(&keys), Vec::new()).await {
            // Of another type, one key would hide a whole list: it is moved out of the way, and gateways write anew what it was.
            Err(error) if error.details().contains("WRONGTYPE") => {
                let types = std::iter::once("zset").chain(std::iter::repeat("hash")).take(keys.len());
                let args = types.map(Bytes::from).chain([moved_suffix().into()]).collect();
                let moved: Vec<String> = run(&self.client, &self.rename, keys.clone(), args).await?;
                metrics::counter!("redis_keys_moved_total", "key" => "presence").increment(moved.len() as u64);
                tracing::error!(keys = ?moved, "keys of presence were of another type and are moved");
                run(&self.client, &self.who, keys, Vec::new()).await?
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
                run::<Value>(&self.client, &self.tell, vec![channel.clone()], vec![notice])
            })
        });
        try_join_all(telling).await?;
        Ok(())
    }
}
