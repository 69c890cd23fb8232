//! Who is online, as Redis has it from the gateways.

use std::collections::HashMap;

use bytes::Bytes;
use fred::prelude::*;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;
use shared::channel::Topology;
use shared::channel::presence::{Names, WHO_IS_ONLINE};
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
}

impl Everybody {
    /// Asks and tells through this Redis.
    #[must_use]
    pub fn new(client: Client, topology: Topology) -> Self {
        let [who, tell] = [WHO_IS_ONLINE, topology.publish_ephemeral_script()].map(Script::from_lua);
        Self { client, who, tell }
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
        let keys = [names.leases()].into_iter().chain(people.iter().map(|who| names.person(who))).collect();
        let answer: Vec<i64> = run(&self.client, &self.who, keys, Vec::new()).await?;
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
