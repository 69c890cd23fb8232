//! The rows of each table, and their way into it.

use std::pin::pin;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use futures_util::SinkExt;
use shared::contract::participant::{Conversation, Participant};
use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::rows::Rows;
use crate::shape::{Shape, mix};
use crate::text::Prose;

const SECOND_US: i64 = 1_000_000;

pub(crate) async fn conversations(transaction: &Transaction<'_>, shape: &Shape) -> Result<()> {
    let copy = "copy conversations (id, location_id, user_id, contact_id, peer_user_id, last_seq, last_activity_at,
        user_unread, other_unread, user_first_unread, other_first_unread, first_unread_reads) from stdin (format binary, freeze)";
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(copy).await?);
    let mut rows = Rows::new();
    for conversation in 0..shape.sizes.len() as u32 {
        let pair = shape.pair(conversation)?;
        let size = shape.sizes[conversation as usize];
        let read = size - shape.unread_tail(conversation);
        let (mut unread, mut first_unread) = ([0, 0], [None, None]);
        for seq in read + 1..=size {
            let side = usize::from(Shape::is_from_first(conversation, seq));
            unread[side] += 1;
            first_unread[side].get_or_insert(i64::from(seq));
        }
        rows.begin(12);
        rows.uuid(Some(pair.id()));
        rows.text(Some(pair.location().as_str()));
        rows.text(user(pair.first()));
        rows.text(contact(pair.second()));
        rows.text(user(pair.second()));
        rows.bigint(Some(i64::from(size)));
        rows.time(Some(shape.sent_at_us(shape.last[conversation as usize])));
        rows.integer(unread[0]);
        rows.integer(unread[1]);
        rows.bigint(first_unread[0]);
        rows.bigint(first_unread[1]);
        rows.bigint(Some(i64::from(read)));
        if let Some(full) = rows.full() {
            sink.feed(full.freeze()).await?;
        }
    }
    rows.end();
    sink.feed(rows.rest().freeze()).await?;
    sink.finish().await?;
    Ok(())
}

/// Rows are made on one core while PostgreSQL stores them on another.
pub(crate) async fn messages(transaction: &Transaction<'_>, shape: &Shape) -> Result<()> {
    let copy =
        "copy messages (id, location_id, sender_user_id, receiver_user_id, sender_contact_id, receiver_contact_id,
        content, sent_at, read_at, conversation_id, seq, delivered_at, client_message_id)
        from stdin (format binary, freeze)";
    let mut sink = pin!(transaction.copy_in::<_, Bytes>(copy).await?);
    let pairs = (0..shape.sizes.len() as u32).map(|c| Ok((shape.pair(c)?, 0))).collect::<Result<Vec<_>>>()?;
    let (full, mut made) = tokio::sync::mpsc::channel::<BytesMut>(16);
    std::thread::scope(|scope| {
        scope.spawn(move || make(shape, pairs, &full));
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                while let Some(rows) = made.recv().await {
                    sink.feed(rows.freeze()).await?;
                }
                Ok::<_, tokio_postgres::Error>(())
            })
        })
    })?;
    sink.finish().await?;
    Ok(())
}

/// Makes every message. Ends early when the receiver has gone.
fn make(shape: &Shape, mut pairs: Vec<(Conversation, u32)>, full: &tokio::sync::mpsc::Sender<BytesMut>) {
    let prose = Prose::new();
    let mut rows = Rows::new();
    for (place, conversation) in (0_u32..).zip(&shape.order) {
        let Some((pair, seq)) = pairs.get_mut(*conversation as usize) else { return };
        *seq += 1;
        let noise = mix(u64::from(place) | 1 << 40);
        let sent_at = shape.sent_at_us(place);
        let is_read = *seq <= shape.sizes[*conversation as usize] - shape.unread_tail(*conversation);
        let delivered_at = (is_read || !noise.is_multiple_of(3)).then(|| (sent_at + SECOND_US).min(shape.now_us()));
        let read_at = is_read.then(|| (sent_at + 600 * SECOND_US).min(shape.now_us()));
        let (sender, receiver) = match Shape::is_from_first(*conversation, *seq) {
            true => (pair.first(), pair.second()),
            false => (pair.second(), pair.first()),
        };
        rows.begin(13);
        rows.uuid(Some(version_7(sent_at, place, noise)));
        rows.text(Some(pair.location().as_str()));
        rows.text(user(sender));
        rows.text(user(receiver));
        rows.text(contact(sender));
        rows.text(contact(receiver));
        rows.text(Some(prose.content(noise)));
        rows.time(Some(sent_at));
        rows.time(read_at);
        rows.uuid(Some(pair.id()));
        rows.bigint(Some(i64::from(*seq)));
        rows.time(delivered_at);
        // Half of them came from clients that name their messages.
        rows.uuid((noise >> 63 == 0).then(|| uuid::Builder::from_random_bytes(random(noise)).into_uuid()));
        if let Some(rows) = rows.full()
            && full.blocking_send(rows).is_err()
        {
            return;
        }
    }
    rows.end();
    let _ = full.blocking_send(rows.rest());
}

/// A UUIDv7 (RFC 9562, 5.7) of a time; places keep the order within a millisecond.
fn version_7(at_us: i64, place: u32, noise: u64) -> Uuid {
    let random = random(noise);
    let [high, low] = [(place >> 8) as u8 & 0x0f, place as u8];
    let tail = [high, low, random[0], random[1], random[2], random[3], random[4], random[5], random[6], random[7]];
    uuid::Builder::from_unix_timestamp_millis((at_us / 1_000) as u64, &tail).into_uuid()
}

fn random(noise: u64) -> [u8; 16] {
    (u128::from(mix(noise)) << 64 | u128::from(mix(!noise))).to_be_bytes()
}

fn user(participant: &Participant) -> Option<&str> {
    participant.user_id().map(shared::contract::ids::ParticipantId::as_str)
}

fn contact(participant: &Participant) -> Option<&str> {
    participant.contact_id().map(shared::contract::ids::ParticipantId::as_str)
}
