//! Receipts (delivered and read) for the API service.
//!
//! When the queue is full, new receipts are dropped (`ehr_chat_gateway_receipts_dropped_total`). Their messages stay
//! undelivered until the client reports them again. A receipt is a claim: the API service decides, and the socket
//! gets no reply. Of duplicates the first counts.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::counter;
use shared::contract::ids::{LocationId, MessageId};
use shared::contract::participant::Participant;
use shared::contract::receipt::{MAX_MESSAGE_IDS, Receipt, ReceiptKind};
use shared::contract::redis::{keys, scripts};

use crate::streams::{StreamEntry, StreamProducer};

/// Message ids that may wait: about 20 MB, if each is a receipt of its own.
const MAX_QUEUED_IDS: usize = 200_000;

/// Message ids per participant and batch: two full receipts.
const MAX_IDS_PER_BATCH: usize = 2 * MAX_MESSAGE_IDS;

/// Queues receipts of all sockets.
pub(crate) type ReceiptProducer = StreamProducer<Receipt>;

impl StreamEntry for Receipt {
    const TASK: &'static str = "receipt producer";
    const STREAM: &'static str = keys::RECEIPT_STREAM;
    const SCRIPT: &'static str = scripts::STREAM_ADD;
    const MAX_STREAM_LENGTH: usize = keys::RECEIPT_STREAM_CAPACITY;
    const MAX_QUEUED_WEIGHT: usize = MAX_QUEUED_IDS;
    const ENQUEUED_METRIC: &'static str = "ehr_chat_gateway_receipts_total";
    const RETRIES_METRIC: &'static str = "ehr_chat_gateway_receipts_retries_total";
    const MAX_UNCONFIRMED_BYTES: usize = 32 << 20;
    const REPEATED_METRIC: &'static str = "ehr_chat_gateway_receipts_repeated_total";
    const UNREPEATABLE_METRIC: &'static str = "ehr_chat_gateway_receipts_unrepeatable_total";

    fn weight(&self) -> usize {
        self.message_ids.len()
    }

    fn owner(&self) -> Option<(&LocationId, &Participant)> {
        Some((&self.location, &self.participant))
    }

    /// A batch holds at most [`MAX_IDS_PER_BATCH`] ids per participant, over all sockets. API services handle
    /// receipts in order, so one participant's flood must not delay others.
    fn split_fair(receipts: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        let all: usize = receipts.iter().map(StreamEntry::weight).sum();
        if all <= MAX_IDS_PER_BATCH {
            return (receipts, Vec::new());
        }
        let mut batch_ids: HashMap<(LocationId, Participant), usize> = HashMap::new();
        receipts.into_iter().partition(|receipt| {
            let batch_ids = batch_ids.entry((receipt.location.clone(), receipt.participant.clone())).or_default();
            *batch_ids += receipt.weight();
            *batch_ids <= MAX_IDS_PER_BATCH
        })
    }

    fn count_overflow(weight: usize) {
        counter!("ehr_chat_gateway_receipts_dropped_total").increment(weight as u64);
    }

    fn coalesce(receipts: Vec<Self>, _lost: usize) -> Vec<Self> {
        merge(receipts)
    }

    fn encode(&self) -> Option<String> {
        Self::encode(self).ok()
    }
}

/// Merges receipts of the same kind, participant and socket, up to [`MAX_MESSAGE_IDS`] different ids. The time is the
/// latest, so that no message is reported earlier than it was acknowledged.
fn merge(receipts: Vec<Receipt>) -> Vec<Receipt> {
    let mut merged: Vec<Receipt> = Vec::with_capacity(receipts.len());
    let mut open: HashMap<MergeKey, OpenReceipt> = HashMap::with_capacity(receipts.len());
    for mut receipt in receipts {
        let socket = receipt.request.as_ref().map(|request| request.request_id.clone());
        let open = match open.entry((receipt.kind, receipt.location.clone(), receipt.participant.clone(), socket)) {
            // Most receipts are alone. The set of ids is built with the second one.
            Entry::Vacant(none) => {
                none.insert(OpenReceipt { index: merged.len(), ids: HashSet::new() });
                merged.push(receipt);
                continue;
            }
            Entry::Occupied(open) => open.into_mut(),
        };
        let Some(into) = merged.get_mut(open.index) else { continue };
        if open.ids.is_empty() {
            open.ids.extend(&into.message_ids);
        }
        receipt.message_ids.retain(|id| open.ids.insert(*id));
        if into.message_ids.len() + receipt.message_ids.len() <= MAX_MESSAGE_IDS {
            into.message_ids.append(&mut receipt.message_ids);
            into.at = into.at.max(receipt.at);
        } else {
            open.index = merged.len();
            merged.push(receipt);
        }
    }
    merged
}

/// What merged receipts have in common.
type MergeKey = (ReceiptKind, LocationId, Participant, Option<Arc<str>>);

/// The index of the receipt with room, and the ids in it and those before.
struct OpenReceipt {
    index: usize,
    ids: HashSet<MessageId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::contract::http::request::RequestContext;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn receipt(kind: ReceiptKind, participant: &str, ids: std::ops::Range<u128>, second: i64) -> Receipt {
        Receipt {
            kind,
            location: "loc1".parse().unwrap(),
            participant: participant.parse().unwrap(),
            message_ids: ids.map(Uuid::from_u128).collect(),
            at: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            request: Some(RequestContext { request_id: "r1".into(), address: [127, 0, 0, 1].into() }),
        }
    }

    #[test]
    fn receipts_of_same_participant_and_kind_are_merged() {
        let merged = merge(vec![
            receipt(ReceiptKind::Delivered, "user:a", 0..2, 1),
            receipt(ReceiptKind::Delivered, "contact:a", 2..3, 2),
            receipt(ReceiptKind::Read, "user:a", 3..4, 3),
            receipt(ReceiptKind::Delivered, "user:a", 4..5, 4),
        ]);
        assert_eq!(merged.len(), 3);
        assert_eq!(merged[0].message_ids, [0, 1, 4].map(Uuid::from_u128));
        assert_eq!(merged[0].at.unix_timestamp(), 4);
    }

    #[test]
    fn duplicate_ids_are_merged() {
        let merged = merge((0..5).map(|second| receipt(ReceiptKind::Delivered, "user:a", 0..400, second)).collect());
        assert_eq!(merged.len(), 1);
        assert_eq!(merged[0].message_ids.len(), 400);
        assert_eq!(merged[0].at.unix_timestamp(), 4);
    }

    #[test]
    fn receipts_of_different_sockets_stay_separate() {
        let devices = ["r1", "r2"].map(|id| {
            let request = Some(RequestContext { request_id: id.into(), address: [127, 0, 0, 1].into() });
            Receipt { request, ..receipt(ReceiptKind::Read, "user:a", 0..2, 1) }
        });
        assert_eq!(merge(devices.to_vec()), devices);
    }

    #[test]
    fn merged_receipts_stay_within_max_ids() {
        let merged = merge((0..7).map(|n| receipt(ReceiptKind::Read, "user:a", n * 100..(n + 1) * 100, 1)).collect());
        let lengths: Vec<_> = merged.iter().map(|receipt| receipt.message_ids.len()).collect();
        assert_eq!(lengths, [500, 200]);
    }

    #[test]
    fn full_queue_drops_new_receipts() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let producer = ReceiptProducer::default();
        for number in 0..=MAX_QUEUED_IDS / 500 {
            let (location, participant) = (format!("loc{}", number % 4), format!("user:u{}", number % 100));
            let receipt = receipt(ReceiptKind::Read, &participant, 0..500, 1);
            producer.enqueue(Receipt { location: location.parse().unwrap(), ..receipt });
        }
        assert_eq!(producer.queued_weight(), MAX_QUEUED_IDS);
        assert_eq!(producer.take_queued().len(), MAX_QUEUED_IDS / 500);
        assert!(recorder.handle().render().contains("ehr_chat_gateway_receipts_dropped_total 500"));
    }

    #[test]
    fn participant_and_location_cannot_fill_the_queue() {
        let producer = ReceiptProducer::default();
        let elsewhere = |participant: &str| Receipt {
            location: "loc2".parse().unwrap(),
            ..receipt(ReceiptKind::Read, participant, 0..500, 1)
        };
        for _socket in 0..MAX_QUEUED_IDS / 500 {
            producer.enqueue(receipt(ReceiptKind::Read, "user:flood", 0..500, 1));
        }
        assert_eq!(producer.queued_weight(), MAX_QUEUED_IDS / 8, "a participant");
        for number in 0..MAX_QUEUED_IDS / 500 {
            producer.enqueue(receipt(ReceiptKind::Read, &format!("user:u{number}"), 0..500, 1));
        }
        assert_eq!(producer.queued_weight(), MAX_QUEUED_IDS / 2, "a location");
        producer.enqueue(elsewhere("user:quiet"));
        assert_eq!(producer.queued_weight(), MAX_QUEUED_IDS / 2 + 500, "there is room for others");
    }

    #[test]
    fn flood_of_one_participant_lets_others_go_first() {
        let mut receipts: Vec<_> =
            (0..10).map(|n| receipt(ReceiptKind::Read, "user:flood", n * 500..(n + 1) * 500, 1)).collect();
        receipts.push(receipt(ReceiptKind::Read, "user:quiet", 0..500, 1));
        let (now, later) = Receipt::split_fair(receipts.clone());
        assert_eq!(now, [receipts[0].clone(), receipts[1].clone(), receipts[10].clone()]);
        assert_eq!(later, receipts[2..10], "in their order");
        let few = receipts[..2].to_vec();
        assert_eq!(Receipt::split_fair(few.clone()), (few, Vec::new()));
    }
}
