//! Proven deliveries and reads, on their way to the API service.
//!
//! Receipts are gathered while a batch is under way, and for [`APART`] at least, and leave together. They wait out an outage of Redis in a bounded
//! queue; when that is full new ones are forgotten (`gateway_acks_dropped_total`), which leaves messages undelivered in the
//! books until their client reports them itself. Nothing here is told to the socket: a receipt is a claim, the
//! API service decides.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::types::Value;
use fred::types::scripts::Script;
use metrics::counter;
use parking_lot::Mutex;
use shared::channel;
use shared::ids::{LocationId, MessageId};
use shared::participant::Participant;
use shared::receipt::{Kind, MAX_IDS, Receipt};
use shared::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::redis::run;

/// Message ids that may wait: some 20 MB, if each is a receipt of its own.
const LIMIT_IDS: usize = 200_000;
/// Entries in one command.
const BATCH: usize = 256;
/// Between two batches: an idle gateway sends at once, a busy one few large commands.
const APART: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// Takes receipts from all sockets. Clones are one.
#[derive(Clone, Default)]
pub struct Acks {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    receipts: Vec<Receipt>,
    /// Of `receipts` and of the batch under way.
    ids: usize,
}

impl Acks {
    /// Sends what is reported until `shutdown`, then what is left.
    pub fn start(client: Client, shutdown: &Shutdown) -> Self {
        let acks = Self::default();
        let (queue, ended) = (acks.queue.clone(), shutdown.clone());
        shutdown.spawn(async move { queue.run(&client, &ended).await });
        acks
    }

    /// Reports. Never waits.
    pub fn report(&self, receipt: Receipt) {
        let mut waiting = self.queue.waiting.lock();
        let ids = receipt.message_ids.len();
        if waiting.ids + ids > LIMIT_IDS {
            counter!("gateway_acks_dropped_total").increment(ids as u64);
            return;
        }
        waiting.ids += ids;
        waiting.receipts.push(receipt);
        drop(waiting);
        counter!("gateway_acks_total").increment(ids as u64);
        self.queue.arrived.notify_one();
    }

    /// Ids that no API service has yet.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.waiting.lock().ids
    }
}

impl Queue {
    async fn run(&self, client: &Client, shutdown: &Shutdown) {
        let script = Script::from_lua(channel::ADD_ACKS);
        loop {
            let receipts = std::mem::take(&mut self.waiting.lock().receipts);
            if receipts.is_empty() {
                if shutdown.has_begun() {
                    return;
                }
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = shutdown.begun() => {}
                }
                continue;
            }
            let (count, began) =
                (receipts.iter().map(|receipt| receipt.message_ids.len()).sum::<usize>(), Instant::now());
            for receipts in merge(receipts).chunks(BATCH) {
                self.send(client, &script, receipts).await;
            }
            self.waiting.lock().ids -= count;
            tokio::select! {
                () = sleep_until(began + APART) => {}
                () = shutdown.begun() => {}
            }
        }
    }

    /// Tries until Redis has them all. Those of a command that was done and not answered are added twice: the first time
    /// stands, so the second says nothing. Whoever shuts down has a deadline for this.
    async fn send(&self, client: &Client, script: &Script, receipts: &[Receipt]) {
        let entries = receipts.iter().filter_map(|receipt| receipt.encode().ok()).map(Value::from);
        let cap = Value::from(channel::ACKS_MAX_LENGTH.to_string());
        let arguments: Vec<_> = [cap].into_iter().chain(entries).collect();
        while run::<Value>(client, script, channel::ACKS, &arguments).await.is_err() {
            counter!("gateway_acks_retries_total").increment(1);
            sleep(PAUSE).await;
        }
    }
}

/// One receipt for all of the same kind by the same person, of at most [`MAX_IDS`] messages, each once however many devices
/// have it. Its time is the latest: no message is said to have arrived before it was proven.
fn merge(receipts: Vec<Receipt>) -> Vec<Receipt> {
    let mut merged: Vec<Receipt> = Vec::with_capacity(receipts.len());
    let mut open: HashMap<(Kind, LocationId, Participant), Open> = HashMap::with_capacity(receipts.len());
    for mut receipt in receipts {
        let open = match open.entry((receipt.kind, receipt.location.clone(), receipt.participant.clone())) {
            // Most are alone: what it takes to know an id again is made when there is another.
            Entry::Vacant(none) => {
                none.insert(Open { place: merged.len(), seen: HashSet::new() });
                merged.push(receipt);
                continue;
            }
            Entry::Occupied(open) => open.into_mut(),
        };
        let Some(into) = merged.get_mut(open.place) else { continue };
        if open.seen.is_empty() {
            open.seen.extend(&into.message_ids);
        }
        receipt.message_ids.retain(|id| open.seen.insert(*id));
        if into.message_ids.len() + receipt.message_ids.len() <= MAX_IDS {
            into.message_ids.append(&mut receipt.message_ids);
            into.at = into.at.max(receipt.at);
        } else {
            open.place = merged.len();
            merged.push(receipt);
        }
    }
    merged
}

/// Where the receipt of one person and kind is that has room, and what was said in it and those before.
struct Open {
    place: usize,
    seen: HashSet<MessageId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn receipt(kind: Kind, who: &str, ids: std::ops::Range<u128>, second: i64) -> Receipt {
        Receipt {
            kind,
            location: "loc1".parse().unwrap(),
            participant: who.parse().unwrap(),
            message_ids: ids.map(Uuid::from_u128).collect(),
            at: OffsetDateTime::from_unix_timestamp(second).unwrap(),
        }
    }

    #[test]
    fn receipts_of_one_person_and_kind_become_one() {
        let merged = merge(vec![
            receipt(Kind::Delivered, "user:a", 0..2, 1),
            receipt(Kind::Delivered, "contact:a", 2..3, 2),
            receipt(Kind::Read, "user:a", 3..4, 3),
            receipt(Kind::Delivered, "user:a", 4..5, 4),
        ]);
        assert_eq!(merged.len(), 3);
        assert_eq!(merged[0].message_ids, [0, 1, 4].map(Uuid::from_u128));
        assert_eq!(merged[0].at.unix_timestamp(), 4);
    }

    #[test]
    fn what_several_devices_prove_is_said_once() {
        let merged = merge((0..5).map(|second| receipt(Kind::Delivered, "user:a", 0..400, second)).collect());
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].message_ids.len(), 400);
        assert_eq!(merged[0].at.unix_timestamp(), 4);
    }

    #[test]
    fn no_receipt_grows_past_what_the_other_side_accepts() {
        let merged = merge((0..7).map(|n| receipt(Kind::Read, "user:a", n * 100..(n + 1) * 100, 1)).collect());
        let lengths: Vec<_> = merged.iter().map(|receipt| receipt.message_ids.len()).collect();
        assert_eq!(lengths, [500, 200]);
    }

    #[test]
    fn a_full_queue_forgets_new_receipts_and_keeps_old_ones() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let acks = Acks::default();
        for _ in 0..=LIMIT_IDS / 500 {
            acks.report(receipt(Kind::Read, "user:a", 0..500, 1));
        }
        let waiting = acks.queue.waiting.lock();
        assert_eq!(waiting.ids, LIMIT_IDS);
        assert_eq!(waiting.receipts.len(), LIMIT_IDS / 500);
        assert!(recorder.handle().render().contains("gateway_acks_dropped_total 500"));
    }
}
