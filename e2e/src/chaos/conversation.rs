//! Two people, the messages that were acknowledged to them, and a send that is retried until it is.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::observations::Observations;
use super::receiver::Receiver;
use super::{Backoff, HANG_TIMEOUT};
use crate::test_location::TestUser;

/// After which a sender gives up; longer than any outage.
const SEND_TIMEOUT: Duration = Duration::from_secs(90);

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

/// Asks again until the answer has one of these statuses, and gives its body. Errors on the way must be clear ones; those of
/// a sender are counted for its conversation.
pub(super) async fn until_answered(
    observations: &Observations,
    what: &str,
    good: &[u16],
    sender_in: Option<&str>,
    request: impl Fn() -> RequestBuilder,
) -> Option<Value> {
    let deadline = Instant::now() + SEND_TIMEOUT;
    let mut backoff = Backoff::up_to(Duration::from_secs(1));
    while Instant::now() < deadline {
        match (ask(observations, what, good, request()).await, sender_in) {
            (Ok(body), _) => return Some(body),
            (Err(Some(error)), Some(conversation)) => observations.sender_error(conversation, error),
            (Err(_), _) => {}
        }
        backoff.pause().await;
    }
    None
}

/// One attempt. The error is none when it was counted elsewhere.
async fn ask(
    observations: &Observations,
    what: &str,
    good: &[u16],
    request: RequestBuilder,
) -> Result<Value, Option<String>> {
    let answering = async {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, response.text().await?))
    };
    let (status, headers, text) = match tokio::time::timeout(HANG_TIMEOUT, answering).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_connect() => return Err(Some("no connection".to_owned())),
        Ok(Err(_)) => return Err(Some("connection broke".to_owned())),
        Err(_) => {
            observations.hang(format!("{what} got no answer within {} s", HANG_TIMEOUT.as_secs()));
            return Err(None);
        }
    };
    if good.contains(&status) {
        return serde_json::from_str(&text).map_err(|_| {
            observations.wrong(format!("{what}: {status} without JSON"));
            None
        });
    }
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let is_clear = header("content-type") == Some("application/problem+json")
        && (status != 503 || header("retry-after").is_some())
        && matches!(status, 429 | 502 | 503 | 504);
    if is_clear {
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        return Err(Some(format!("{status} ({})", problem["detail"].as_str().unwrap_or_default())));
    }
    observations.wrong(format!("{what}: {status} {text}"));
    Err(None)
}
