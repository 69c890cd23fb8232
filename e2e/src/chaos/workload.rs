//! The load: a location full of conversations, whose people send at a steady pace.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use super::conversation::Conversation;
use super::observations::Observations;
use crate::test_location::{TestLocation, TestUser};
use crate::token;

/// How much load there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Conversations; each has two senders and two receivers.
    pub(super) conversations: usize,
    /// Between two messages of one sender.
    pub(super) pace: Duration,
    /// How long tokens must last.
    pub(super) lasts: Duration,
}

/// One location, for as long as its clients are wanted.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) conversations: Vec<Arc<Conversation>>,
    /// Held by a sender from the first attempt to the acknowledgement.
    sending: Arc<RwLock<()>>,
    tasks: JoinSet<()>,
}

impl Workload {
    pub(super) fn begin(place: &TestLocation, load: Load, observations: &Arc<Observations>) -> Self {
        let conversations: Vec<_> = (0..load.conversations)
            .map(|number| {
                let (first, second) = pair(place, number);
                Arc::new(Conversation::new(lasting(&first, load.lasts), lasting(&second, load.lasts), observations))
            })
            .collect();
        let sending = Arc::new(RwLock::new(()));
        let mut tasks = JoinSet::new();
        let senders = u32::try_from(load.conversations * 2).unwrap_or(1);
        for (number, conversation) in conversations.iter().enumerate() {
            for side in 0..2 {
                let receiver = conversation.receivers[side].clone();
                tasks.spawn(async move { receiver.live(side == 0).await });
                let turn = load.pace / senders * u32::try_from(number * 2 + side).unwrap_or(0);
                tasks.spawn(keep_sending(conversation.clone(), side, load.pace, turn, sending.clone()));
            }
        }
        Self { conversations, sending, tasks }
    }

    /// Messages that were acknowledged.
    pub(super) fn acknowledged(&self) -> usize {
        self.conversations.iter().map(|conversation| conversation.count()).sum()
    }

    /// Waits until every sender's message was acknowledged, and keeps them from sending more until the answer is dropped.
    pub(super) async fn pause(&self, deadline: Instant) -> Option<RwLockWriteGuard<'_, ()>> {
        timeout_at(deadline, self.sending.write()).await.ok()
    }

    /// Waits until all conversations are live again; gives those that are not.
    pub(super) async fn heal(&self, deadline: Instant) -> Vec<String> {
        let healing = self
            .conversations
            .iter()
            .map(async |conversation| (!conversation.is_live_again(deadline).await).then(|| conversation.name()));
        join_all(healing).await.into_iter().flatten().collect()
    }

    /// Clients that died; they never should.
    pub(super) fn dead_clients(&mut self) -> usize {
        std::iter::from_fn(|| self.tasks.try_join_next()).count()
    }
}

/// Three of four are of a user and a contact, the others of two users; users have several conversations each.
fn pair(place: &TestLocation, number: usize) -> (TestUser, TestUser) {
    let doctor = place.user(&format!("doc{}", number % 3));
    match number % 4 {
        3 => (doctor, place.user(&format!("nurse{number}"))),
        1 => (place.contact(&format!("pat{number}")), doctor),
        _ => (doctor, place.contact(&format!("pat{number}"))),
    }
}

/// The same person, whose token does not expire before the end.
fn lasting(person: &TestUser, lasts: Duration) -> TestUser {
    let claims = token::claims(&person.id, person.role.as_str(), &[&person.place.location]);
    let ends = token::now() + i64::try_from(lasts.as_secs()).unwrap_or(0) + 3600;
    person.with_token(person.place.sign(&token::with(claims, "exp", ends.into())))
}

async fn keep_sending(
    conversation: Arc<Conversation>,
    side: usize,
    pace: Duration,
    turn: Duration,
    sending: Arc<RwLock<()>>,
) {
    let mut beat = interval_at(Instant::now() + turn, pace);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let _held = sending.read().await;
        conversation.send(side).await;
    }
}
