//! Audit entries of sockets: opened, closed, rejected, token replaced.
//!
//! The API service stores them. Entries that do not fit into the queue are counted, and the count becomes an entry.
//! Each entry has an id, so a repeated one is stored once. Floods of denials and of token replacements are coalesced
//! into counts.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use shared::contract::audit::denials::DenialAggregator;
use shared::contract::audit::{Action, AuditActor, AuditEntry, coalesce};
use shared::contract::redis::{keys, scripts};
use shared::kit::shutdown::Shutdown;
use tokio::time::sleep;
use uuid::Uuid;

use crate::streams::{StreamEntry, StreamProducer};

/// Between two checks for counts that are due.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// Entries that may wait: about 40 MB.
const MAX_QUEUED: usize = 100_000;

/// Queues audit entries of sockets and handshakes. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct AuditProducer {
    producer: StreamProducer<AuditEntry>,
    denials: Arc<DenialAggregator>,
}

impl AuditProducer {
    /// Sends entries to `producer`, and counts when they are due, until `shutdown`.
    pub(crate) fn start(producer: StreamProducer<AuditEntry>, shutdown: &Shutdown) -> Self {
        let audit = Self { producer, denials: Arc::default() };
        let (counting, ended) = (audit.clone(), shutdown.clone());
        shutdown.spawn("coalesced denials", async move {
            while !ended.has_begun() {
                counting.denials.take_due().into_iter().for_each(|entry| counting.producer.enqueue(entry));
                tokio::select! {
                    () = sleep(COUNT_INTERVAL) => {}
                    () = ended.wait_for_begin() => {}
                }
            }
        });
        audit
    }

    /// Queues an entry. It never waits.
    pub(crate) fn enqueue(&self, entry: AuditEntry) {
        if let Some(entry) = self.denials.admit(entry) {
            self.producer.enqueue(entry);
        }
    }

    /// Sends the remaining counts. Call it before the producer's shutdown begins.
    pub(crate) fn flush_counts(&self) {
        self.denials.take_all().into_iter().for_each(|entry| self.producer.enqueue(entry));
    }

    #[cfg(test)]
    pub(crate) fn take_queued(&self) -> Vec<AuditEntry> {
        self.producer.take_queued()
    }
}

impl StreamEntry for AuditEntry {
    const TASK: &'static str = "socket audit";
    const STREAM: &'static str = keys::AUDIT_STREAM;
    const SCRIPT: &'static str = scripts::STREAM_ADD_OR_FAIL;
    const MAX_STREAM_LENGTH: usize = keys::AUDIT_STREAM_CAPACITY;
    const MAX_QUEUED_WEIGHT: usize = MAX_QUEUED;
    const ENQUEUED_METRIC: &'static str = "ehr_chat_gateway_audit_entries_total";
    const RETRIES_METRIC: &'static str = "ehr_chat_gateway_audit_retries_total";
    const MAX_UNCONFIRMED_BYTES: usize = 16 << 20;
    const REPEATED_METRIC: &'static str = "ehr_chat_gateway_audit_repeated_total";
    const UNREPEATABLE_METRIC: &'static str = "ehr_chat_gateway_audit_unrepeatable_total";

    fn weight(&self) -> usize {
        1
    }

    fn count_overflow(weight: usize) {
        counter!("ehr_chat_gateway_audit_overflows_total").increment(weight as u64);
    }

    fn coalesce(entries: Vec<Self>, lost: usize) -> Vec<Self> {
        let mut entries = coalesce(entries);
        if lost > 0 {
            let times = u32::try_from(lost).unwrap_or(u32::MAX);
            entries.push(Self { times, ..Self::new(AuditActor::System, Action::Lost, 0) });
        }
        for entry in &mut entries {
            entry.event = Some(Uuid::now_v7());
        }
        entries
    }

    fn encode(&self) -> Option<String> {
        Self::encode(self).ok()
    }
}

/// Whether a rejected handshake is audited: access was denied, as opposed to a malformed request.
pub(crate) fn is_recorded(status: u16) -> bool {
    matches!(status, 401 | 403 | 422 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_audit_queue_reports_lost_entries() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let producer = StreamProducer::<AuditEntry>::default();
        for _ in 0..MAX_QUEUED + 7 {
            producer.enqueue(AuditEntry::new(AuditActor::Anonymous, Action::SocketOpen, 401));
        }
        assert!(recorder.handle().render().contains("ehr_chat_gateway_audit_overflows_total 7"));
        let sent = AuditEntry::coalesce(producer.take_queued(), 7);
        let sent_rows: Vec<_> = sent.iter().map(|entry| (entry.action, entry.outcome, entry.times)).collect();
        assert_eq!(sent_rows, [(Action::SocketOpen, 401, MAX_QUEUED as u32), (Action::Lost, 0, 7)]);
        assert!(sent[0].event.is_some() && sent[0].event != sent[1].event);
    }

    #[test]
    fn floods_of_denials_and_tokens_are_coalesced() {
        let audit = AuditProducer::default();
        let token_replaced = || AuditEntry::new("user:doc".parse().unwrap(), Action::SocketAuth, 200);
        for _ in 0..10_000 {
            audit.enqueue(AuditEntry::new(AuditActor::Anonymous, Action::SocketOpen, 401));
            audit.enqueue(token_replaced());
        }
        let opened = AuditEntry::new("user:doc".parse().unwrap(), Action::SocketOpen, 101);
        for _ in 0..1_000 {
            audit.enqueue(opened.clone());
        }
        audit.flush_counts();
        let entries = audit.producer.take_queued();
        let of = |action: Action, outcome: u16| {
            let entries = entries.iter().filter(|entry| (entry.action, entry.outcome) == (action, outcome));
            entries.fold((0, 0), |(rows, times), entry| (rows + 1, times + entry.times))
        };
        for (action, outcome) in [(Action::SocketOpen, 401), (Action::SocketAuth, 200)] {
            let (rows, times) = of(action, outcome);
            assert!(rows < 100 && times == 10_000, "{rows} rows for {times}");
        }
        assert_eq!(of(Action::SocketOpen, 101), (1_000, 1_000), "other entries are not coalesced");
    }
}
