//! Two people, the messages that were acknowledged to them, and a send that is retried until it is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::observations::Observations;
use super::receiver::Receiver;
use super::requests::until_answered;
use crate::test_location::TestUser;

/// One conversation under load.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Who takes part.
    pub(super) people: [TestUser; 2],
    /// Their clients.
    pub(super) receivers: [Arc<Receiver>; 2],
    /// By `client_message_id`, the id of the message.
    acknowledged: Mutex<HashMap<Uuid, Uuid>>,
    observations: Arc<Observations>,
}

impl Conversation {
    pub(super) fn new(first: TestUser, second: TestUser, observations: &Arc<Observations>) -> Self {
        let receivers = [
            Receiver::new(first.clone(), second.clone(), observations.clone()),
            Receiver::new(second.clone(), first.clone(), observations.clone()),
        ];
        Self { people: [first, second], receivers, acknowledged: Mutex::default(), observations: observations.clone() }
    }

    /// Its people, for messages about it.
    pub(super) fn name(&self) -> String {
        format!("{}–{}", self.people[0].id, self.people[1].id)
    }

    /// What was acknowledged so far: `client_message_id` and id.
    pub(super) fn acknowledged(&self) -> HashMap<Uuid, Uuid> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many messages were acknowledged so far.
    pub(super) fn count(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sends from one to the other, the same message again until it is acknowledged. The message's id; none when it was
    /// given up.
    pub(super) async fn send(&self, from: usize) -> Option<Uuid> {
        let (sender, receiver) = (&self.people[from], &self.people[1 - from]);
        let client_message_id = Uuid::now_v7();
        let content = format!("message {}", client_message_id.simple());
        let mut body = sender.message_to(receiver, &content);
        body["client_message_id"] = json!(client_message_id);
        let (name, request) = (self.name(), || sender.request(Method::POST, "/chat/send").json(&body));
        let Some(message) =
            until_answered(&self.observations, "POST /chat/send", &[200, 201], Some(&name), request).await
        else {
            self.observations.wrong(format!("{}: a message was never acknowledged", self.name()));
            return None;
        };
        let id = message["id"].as_str().and_then(|id| id.parse().ok());
        if id.is_none()
            || message["content"] != content.as_str()
            || message["client_message_id"] != json!(client_message_id)
        {
            self.observations.wrong(format!("{}: an acknowledgement of something else", self.name()));
            return None;
        }
        let id = id?;
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(client_message_id, id);
        Some(id)
    }

    /// Sends until a message comes to both sides as a frame, as messages do on a good day.
    pub(super) async fn is_live_again(&self, deadline: Instant) -> bool {
        let trying = async {
            loop {
                let Some(id) = self.send(0).await else { continue };
                let soon = Instant::now() + Duration::from_secs(1);
                let received = join_all(self.receivers.iter().map(|receiver| receiver.hears(id, soon))).await;
                if received.iter().all(|received| *received) {
                    return;
                }
            }
        };
        timeout_at(deadline, trying).await.is_ok()
    }

    /// Ids that were marked as read, and the mark acknowledged.
    pub(super) fn marked(&self) -> HashSet<Uuid> {
        self.receivers.iter().flat_map(|receiver| receiver.marked()).collect()
    }
}
