//! What happens to sockets, on its way into the audit trail: opened, closed, refused, a fresh token shown.
//!
//! The gateway has no database; the API service writes it down. When too many entries wait, new ones are counted, and the count
//! is an entry itself. Each entry has an id, so one that arrives twice is written once. Of a flood of refusals, or of tokens shown on
//! open sockets, the first are entries each, and the rest is a count.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use shared::audit::{Action, AuditActor, AuditEntry, coalesce};
use shared::channel;
use shared::refusals::Refusals;
use shared::shutdown::Shutdown;
use tokio::time::sleep;
use uuid::Uuid;

use crate::streams::{Load, Uplink};

/// Between two looks for counts that are due.
const COUNT_EVERY: Duration = Duration::from_millis(250);

/// Entries that may wait: some 40 MB.
const LIMIT: usize = 100_000;

/// Takes entries from all sockets and handshakes. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Audit {
    uplink: Uplink<AuditEntry>,
    refusals: Arc<Refusals>,
}

impl Audit {
    /// Hands to `uplink` what is reported, and counts that are due until `shutdown`.
    pub(crate) fn start(uplink: Uplink<AuditEntry>, shutdown: &Shutdown) -> Self {
        let audit = Self { uplink, refusals: Arc::default() };
        let (counting, ended) = (audit.clone(), shutdown.clone());
        shutdown.spawn("counted refusals", async move {
            while !ended.has_begun() {
                counting.refusals.due().into_iter().for_each(|entry| counting.uplink.report(entry));
                tokio::select! {
                    () = sleep(COUNT_EVERY) => {}
                    () = ended.begun() => {}
                }
            }
        });
        audit
    }

    /// Reports. Never waits.
    pub(crate) fn report(&self, entry: AuditEntry) {
        if let Some(entry) = self.refusals.admit(entry) {
            self.uplink.report(entry);
        }
    }

    /// Reports what was counted, due or not. To be called before the shutdown of what sends it begins.
    pub(crate) fn report_rest(&self) {
        self.refusals.rest().into_iter().for_each(|entry| self.uplink.report(entry));
    }
}

impl Load for AuditEntry {
    const TASK: &'static str = "socket audit";
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
        let uplink = Uplink::<AuditEntry>::default();
        for _ in 0..LIMIT + 7 {
            uplink.report(AuditEntry::new(AuditActor::Anonymous, Action::SocketOpen, 401));
        }
        assert!(recorder.handle().render().contains("gateway_audit_overflows_total 7"));
        let sent = AuditEntry::pack(uplink.take(), 7);
        let told: Vec<_> = sent.iter().map(|entry| (entry.action, entry.outcome, entry.times)).collect();
        assert_eq!(told, [(Action::SocketOpen, 401, LIMIT as u32), (Action::Lost, 0, 7)]);
        assert!(sent[0].event.is_some() && sent[0].event != sent[1].event);
    }

    #[test]
    fn a_flood_of_refusals_and_of_tokens_is_few_entries_and_a_count() {
        let audit = Audit::default();
        let shown = || AuditEntry::new("user:doc".parse().unwrap(), Action::SocketAuth, 200);
        for _ in 0..10_000 {
            audit.report(AuditEntry::new(AuditActor::Anonymous, Action::SocketOpen, 401));
            audit.report(shown());
        }
        let opened = AuditEntry::new("user:doc".parse().unwrap(), Action::SocketOpen, 101);
        for _ in 0..1_000 {
            audit.report(opened.clone());
        }
        audit.report_rest();
        let entries = audit.uplink.take();
        let of = |action: Action, outcome: u16| {
            let entries = entries.iter().filter(|entry| (entry.action, entry.outcome) == (action, outcome));
            entries.fold((0, 0), |(rows, times), entry| (rows + 1, times + entry.times))
        };
        for (action, outcome) in [(Action::SocketOpen, 401), (Action::SocketAuth, 200)] {
            let (rows, times) = of(action, outcome);
            assert!(rows < 100 && times == 10_000, "{rows} rows for {times}");
        }
        assert_eq!(of(Action::SocketOpen, 101), (1_000, 1_000), "what is no refusal is an entry each");
    }
}
