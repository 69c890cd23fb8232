//! What happens to sockets, on its way into the audit trail: opened, closed, refused, a fresh token shown.
//!
//! The gateway has no database; the API service writes it down. When too many entries wait, new ones are counted, and the count
//! is an entry itself. Each entry has an id, so one that arrives twice is written once.

use metrics::counter;
use shared::audit::{Action, Entry, Who, coalesce};
use shared::channel;
use uuid::Uuid;

use crate::uplink::{Load, Uplink};

/// Entries that may wait: some 40 MB.
const LIMIT: usize = 100_000;

/// Takes entries from all sockets and handshakes.
pub type Audit = Uplink<Entry>;

impl Load for Entry {
    const STREAM: &'static str = channel::AUDIT;
    const SCRIPT: &'static str = channel::ADD_AUDIT;
    const MOST_KEPT: usize = channel::AUDIT_MAX_LENGTH;
    const MOST_WAITING: usize = LIMIT;
    const TAKEN: &'static str = "gateway_audit_total";
    const RETRIES: &'static str = "gateway_audit_retries_total";
    const MOST_REMEMBERED_BYTES: usize = 16 << 20;
    const REPEATED: &'static str = "gateway_audit_repeated_total";
    const FORGOTTEN: &'static str = "gateway_audit_unrepeatable_total";

    fn weight(&self) -> usize {
        1
    }

    fn overflow(weight: usize) {
        counter!("gateway_audit_overflows_total").increment(weight as u64);
    }

    fn pack(entries: Vec<Self>, lost: usize) -> Vec<Self> {
        let mut entries = coalesce(entries);
        if lost > 0 {
            let times = u32::try_from(lost).unwrap_or(u32::MAX);
            entries.push(Self { times, ..Self::new(Who::System, Action::Lost, 0) });
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

/// Whether a refused handshake is the trail's business: somebody was not let in, rather than not understood.
pub(crate) fn is_recorded(status: u16) -> bool {
    matches!(status, 401 | 403 | 422 | 429)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_says_how_many_it_did_not_take() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let audit = Audit::default();
        for _ in 0..LIMIT + 7 {
            audit.report(Entry::new(Who::Anonymous, Action::SocketOpen, 401));
        }
        assert!(recorder.handle().render().contains("gateway_audit_overflows_total 7"));
        let sent = Entry::pack(audit.take(), 7);
        let told: Vec<_> = sent.iter().map(|entry| (entry.action, entry.outcome, entry.times)).collect();
        assert_eq!(told, [(Action::SocketOpen, 401, LIMIT as u32), (Action::Lost, 0, 7)]);
        assert!(sent[0].event.is_some() && sent[0].event != sent[1].event);
    }
}
