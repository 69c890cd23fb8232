//! What must hold once everything is healed: acknowledged = in history = received, no gap, no double, counters agree.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use uuid::Uuid;

use super::conversation::Conversation;
use super::observations::Observations;
use super::requests::until_answered;

/// For receipts and counters to settle.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(20);

/// What was found. All zero is good.
#[derive(Debug, Clone, Default)]
pub(super) struct Violations {
    /// Acknowledged messages that history or a receiver does not have.
    pub(super) lost: usize,
    /// Messages that are there twice, or were never asked for.
    pub(super) doubled: usize,
    /// Numbers that are missing in a conversation.
    pub(super) gaps: usize,
    /// Inboxes whose count or last message is wrong, and acknowledged reads that are not there.
    pub(super) wrong: usize,
    /// Messages that came over a socket, and do not show as delivered.
    pub(super) undelivered: HashSet<Uuid>,
    /// In words.
    pub(super) details: Vec<String>,
}

impl Violations {
    fn is_clean(&self) -> bool {
        self.is_sound() && self.undelivered.is_empty()
    }

    fn is_sound(&self) -> bool {
        self.lost + self.doubled + self.gaps + self.wrong == 0
    }

    fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.gaps += other.gaps;
        self.wrong += other.wrong;
        self.undelivered.extend(other.undelivered);
        self.details.extend(other.details);
    }

    fn note(&mut self, text: String) {
        self.details.push(text);
    }
}

/// Looks at all conversations, as long as it takes them to be clean.
pub(super) async fn check(conversations: &[std::sync::Arc<Conversation>], observations: &Observations) -> Violations {
    let found = join_all(conversations.iter().map(|conversation| settle(conversation, observations))).await;
    let mut all = Violations::default();
    for findings in found {
        all.add(findings);
    }
    all
}

async fn settle(conversation: &Conversation, observations: &Observations) -> Violations {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    let mut beat = interval(Duration::from_millis(250));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let findings = look(conversation, observations).await;
        if findings.is_clean() || Instant::now() > deadline {
            return findings;
        }
    }
}

async fn look(conversation: &Conversation, observations: &Observations) -> Violations {
    let mut findings = Violations::default();
    let name = conversation.name();
    let Some(history) = load(conversation, observations).await else {
        findings.wrong += 1;
        findings.note(format!("{name}: history cannot be loaded"));
        return findings;
    };
    let stored = look_at_history(conversation, &history, &mut findings);
    for (receiver, person) in conversation.receivers.iter().zip(&conversation.people) {
        let has = receiver.messages();
        for (id, seq) in stored.iter().filter(|(id, _)| !has.contains_key(*id)) {
            findings.lost += 1;
            findings.note(format!("{name}: {} never got {id} (seq {seq})", person.id));
        }
        for id in has.keys().filter(|id| !stored.contains_key(*id)) {
            findings.doubled += 1;
            findings.note(format!("{name}: {} got {id}, which is not in history", person.id));
        }
        let receives = format!("receiver_{}_id", person.role);
        let mine: Vec<&Value> = history.iter().filter(|message| message[&receives] == person.id.as_str()).collect();
        let by_frame = receiver.by_frame();
        let undelivered =
            mine.iter().filter(|message| message["delivered_at"].is_null()).filter_map(|message| id_of(message));
        findings.undelivered.extend(undelivered.filter(|id| by_frame.contains(id)));

        let unread: Vec<_> = mine.iter().filter(|message| message["is_read"] == json!(false)).collect();
        let (unread, first_unread) = (unread.len(), unread.first().map(|message| &message["seq"]));
        let path = format!("/chat/conversations?location_id={}&limit=100", person.place.location);
        let request = || person.request(Method::GET, &path);
        let inbox =
            until_answered(observations, "GET /chat/conversations", &[200], None, request).await.unwrap_or_default();
        let id = history.last().map(|message| &message["conversation_id"]);
        let rows = inbox["conversations"].as_array().map(Vec::as_slice).unwrap_or_default();
        let row = rows.iter().find(|row| Some(&row["conversation_id"]) == id).cloned().unwrap_or_default();
        if row["unread_count"] != json!(unread) || Some(&row["last_message"]["id"]) != history.last().map(|m| &m["id"])
        {
            findings.wrong += 1;
            findings
                .note(format!("{name}: {} has {unread} unread, and the inbox says {}", person.id, row["unread_count"]));
        }
        if row.get("first_unread_seq") != first_unread {
            findings.wrong += 1;
            findings.note(format!(
                "{name}: {} has {first_unread:?} as first unread, the inbox {:?}",
                person.id,
                row.get("first_unread_seq")
            ));
        }
    }
    findings
}

/// Compares history with what was acknowledged; gives what it holds, with `seq`.
fn look_at_history(conversation: &Conversation, history: &[Value], findings: &mut Violations) -> HashMap<Uuid, u64> {
    let name = conversation.name();
    let mut stored = HashMap::new();
    let mut by_client_id: HashMap<Uuid, Uuid> = HashMap::new();
    for (place, message) in history.iter().enumerate() {
        let seq = message["seq"].as_u64().unwrap_or_default();
        let client_id = message["client_message_id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (Some(id), Some(client_id)) = (id_of(message), client_id) else {
            findings.doubled += 1;
            findings.note(format!("{name}: seq {seq} was never sent"));
            continue;
        };
        if seq != place as u64 + 1 {
            findings.gaps += 1;
            findings.note(format!("{name}: seq {seq} stands at place {}", place + 1));
        }
        if stored.insert(id, seq).is_some() || by_client_id.insert(client_id, id).is_some() {
            findings.doubled += 1;
            findings.note(format!("{name}: {id} (seq {seq}) is a double"));
        }
    }
    let acknowledged = conversation.acknowledged();
    for (client_id, id) in &acknowledged {
        if by_client_id.get(client_id) != Some(id) {
            findings.lost += 1;
            findings.note(format!("{name}: {id} was acknowledged and is not in history"));
        }
    }
    for (client_id, id) in &by_client_id {
        if !acknowledged.contains_key(client_id) {
            findings.doubled += 1;
            findings.note(format!("{name}: {id} is in history and was never acknowledged"));
        }
    }
    let read: HashSet<Uuid> =
        history.iter().filter(|message| message["is_read"] == json!(true)).filter_map(id_of).collect();
    for id in conversation.marked().difference(&read) {
        findings.wrong += 1;
        findings.note(format!("{name}: {id} was marked as read and is not"));
    }
    stored
}

fn id_of(message: &Value) -> Option<Uuid> {
    message["id"].as_str()?.parse().ok()
}

async fn load(conversation: &Conversation, observations: &Observations) -> Option<Vec<Value>> {
    let [first, second] = &conversation.people;
    let mut history: Vec<Value> = Vec::new();
    loop {
        let after = history.last().map_or(json!(0), |message| message["seq"].clone());
        let path = format!("/chat/history?{}&limit=200&after={after}", first.with(second));
        let request = || first.request(Method::GET, &path);
        let page = until_answered(observations, "GET /chat/history", &[200], None, request).await?;
        history.extend(page["messages"].as_array()?.iter().cloned());
        if page["has_more"] != json!(true) {
            return Some(history);
        }
    }
}
