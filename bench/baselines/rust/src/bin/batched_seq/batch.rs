//! The natural batch: while one is being written, the next gathers. One statement numbers and inserts it and is its own
//! transaction; then its PUBLISHes leave in one write, ahead of the answers. Redis' replies are read and dropped.

use std::collections::HashMap;

use anyhow::{Context, Result};
use baselines::redis::{self, write_command};
use baselines::settings;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::{Client, NoTls, Statement};
use uuid::Uuid;

/// Messages written together, at most.
const MAX_BATCH: usize = 512;

const SCHEMA: &str = include_str!("../../../../write/ordered.sql");

const OPEN: &str = "insert into yard_conversations (location_id, first, second) values ($1, $2, $3)
    on conflict (location_id, first, second) do update set last_seq = yard_conversations.last_seq returning id";

const INSERT: &str = "with sent as (
        select * from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
            with ordinality as x (id, conversation_id, location_id, sender_user_id, sender_contact_id,
                                  receiver_user_id, receiver_contact_id, content, place)
    ), bumped as (
        update yard_conversations c set last_seq = c.last_seq + n.count
        from (select conversation_id, count(*) as count from sent group by conversation_id) n
        where c.id = n.conversation_id
        returning c.id, c.last_seq - n.count as before
    )
    insert into yard_ordered_messages (id, conversation_id, seq, location_id, sender_user_id, sender_contact_id,
        receiver_user_id, receiver_contact_id, content, sent_at)
    select s.id, b.id, b.before + row_number() over (partition by b.id order by s.place), s.location_id,
        s.sender_user_id, s.sender_contact_id, s.receiver_user_id, s.receiver_contact_id, s.content, $9
    from sent s join bumped b on b.id = s.conversation_id
    returning id, seq";

/// The body of a request.
#[derive(Deserialize)]
pub(crate) struct Body {
    location_id: String,
    sender_user_id: Option<String>,
    sender_contact_id: Option<String>,
    receiver_user_id: Option<String>,
    receiver_contact_id: Option<String>,
    content: String,
}

/// A message to be written, and its two participants in alphabetical order.
pub(crate) struct Message {
    body: Body,
    first: String,
    second: String,
}

impl Message {
    /// `None` without exactly one sender and one receiver.
    pub(crate) fn new(body: Body) -> Option<Self> {
        let participant = |user: &Option<String>, contact: &Option<String>| match (user, contact) {
            (Some(user), None) => Some(format!("user:{user}")),
            (None, Some(contact)) => Some(format!("contact:{contact}")),
            _ => None,
        };
        let mut pair = [
            participant(&body.sender_user_id, &body.sender_contact_id)?,
            participant(&body.receiver_user_id, &body.receiver_contact_id)?,
        ];
        pair.sort_unstable();
        let [first, second] = pair;
        Some(Self { body, first, second })
    }
}

/// A request that waits.
pub(crate) struct Send {
    pub(crate) message: Message,
    pub(crate) done: oneshot::Sender<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: Uuid,
    conversation_id: i64,
    seq: i64,
    location_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_contact_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_contact_id: Option<&'a str>,
    content: &'a str,
    sent_at: &'a str,
    is_read: bool,
}

pub(crate) struct ApiTarget {
    client: Client,
    open: Statement,
    insert: Statement,
    redis: OwnedWriteHalf,
    /// Ids of conversations, by location and pair.
    conversations: HashMap<(String, String, String), i64>,
}

impl ApiTarget {
    pub(crate) async fn start() -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(&settings::required("DATABASE_URL")?, NoTls).await?;
        // Its end shows in the next statement.
        tokio::task::spawn_local(async move { drop(connection.await) });
        client.batch_execute(SCHEMA).await?;
        let (open, insert) = tokio::try_join!(client.prepare(OPEN), client.prepare(INSERT))?;
        let redis = redis::connect(&settings::required("REDIS_URL")?)?;
        redis.set_nonblocking(true)?;
        let (mut replies, redis) = TcpStream::from_std(redis)?.into_split();
        tokio::task::spawn_local(async move {
            let mut ignored = vec![0; 16 * 1024];
            while replies.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
        });
        Ok(Self { client, open, insert, redis, conversations: HashMap::new() })
    }

    /// Writes batch after batch. A statement that fails ends the server: there are no other clients to protect.
    pub(crate) async fn run(mut self, mut queued: mpsc::Receiver<Send>) -> Result<()> {
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while queued.recv_many(&mut batch, MAX_BATCH).await > 0 {
            self.write(&mut batch).await?;
        }
        Ok(())
    }

    async fn write(&mut self, batch: &mut Vec<Send>) -> Result<()> {
        let mut conversations = Vec::with_capacity(batch.len());
        for send in batch.iter() {
            conversations.push(self.conversation(&send.message).await?);
        }
        let ids: Vec<Uuid> = batch.iter().map(|_| Uuid::now_v7()).collect();
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(now.microsecond() * 1000)?;
        let seqs = self.insert(batch, &ids, &conversations, now).await?;

        let sent_at = now.format(&Rfc3339)?;
        let mut publishes = Vec::with_capacity(batch.len() * 512);
        let mut answers = Vec::with_capacity(batch.len());
        for ((send, id), conversation_id) in batch.iter().zip(ids).zip(conversations) {
            let Message { body, first, second } = &send.message;
            let answer = serde_json::to_string(&Answer {
                id,
                conversation_id,
                seq: *seqs.get(&id).context("a message was not written")?,
                location_id: &body.location_id,
                sender_user_id: body.sender_user_id.as_deref(),
                sender_contact_id: body.sender_contact_id.as_deref(),
                receiver_user_id: body.receiver_user_id.as_deref(),
                receiver_contact_id: body.receiver_contact_id.as_deref(),
                content: &body.content,
                sent_at: &sent_at,
                is_read: false,
            })?;
            let channel = format!("yard:{}:{first}:{second}", body.location_id);
            write_command(&mut publishes, &[b"PUBLISH", channel.as_bytes(), answer.as_bytes()]);
            answers.push(answer);
        }
        self.redis.write_all(&publishes).await?;
        for (send, answer) in batch.drain(..).zip(answers) {
            // Who has hung up meanwhile gets no answer.
            let _ = send.done.send(answer);
        }
        Ok(())
    }

    /// The numbers of a batch by message. In what order RETURNING lists rows is not promised.
    async fn insert(
        &self,
        batch: &[Send],
        ids: &[Uuid],
        conversations: &[i64],
        now: OffsetDateTime,
    ) -> Result<HashMap<Uuid, i64>> {
        let text = |value: fn(&Body) -> &str| batch.iter().map(|send| value(&send.message.body)).collect::<Vec<_>>();
        let person = |value: fn(&Body) -> Option<&str>| {
            batch.iter().map(|send| value(&send.message.body)).collect::<Vec<Option<&str>>>()
        };
        let locations = text(|body| &body.location_id);
        let sender_users = person(|body| body.sender_user_id.as_deref());
        let sender_contacts = person(|body| body.sender_contact_id.as_deref());
        let receiver_users = person(|body| body.receiver_user_id.as_deref());
        let receiver_contacts = person(|body| body.receiver_contact_id.as_deref());
        let contents = text(|body| &body.content);
        let rows = self
            .client
            .query(
                &self.insert,
                &[
                    &ids,
                    &conversations,
                    &locations,
                    &sender_users,
                    &sender_contacts,
                    &receiver_users,
                    &receiver_contacts,
                    &contents,
                    &now,
                ],
            )
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The conversation of a message, made the first time it is met.
    async fn conversation(&mut self, message: &Message) -> Result<i64> {
        let pair = (message.body.location_id.clone(), message.first.clone(), message.second.clone());
        if let Some(id) = self.conversations.get(&pair) {
            return Ok(*id);
        }
        let row = self.client.query_one(&self.open, &[&pair.0, &pair.1, &pair.2]).await?;
        let id = row.try_get(0)?;
        self.conversations.insert(pair, id);
        Ok(id)
    }
}
