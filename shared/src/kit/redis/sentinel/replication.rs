//! Which writes would survive the loss of the master.
//!
//! Redis replicates asynchronously, and a master that was cut off from its replicas and Sentinels accepts writes that are lost
//! when it returns. So an event in it is safe only once the replicas have it. `INFO replication` says how far each replica is.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Longest wait for the replicas. After this time writes count as safe on a master that has answered all the time and is still
/// the one that the Sentinels name: with one replica that is away for good, nothing else would ever be safe. It is longer than
/// the Sentinels need to replace a master, and shorter than the outbox waits for a service that may have died.
const REPLICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server says about its replication.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replication {
    pub(super) is_master: bool,
    /// Bytes that it has written for its replicas.
    offset: u64,
    /// Bytes that each connected replica has confirmed.
    replicas: Vec<u64>,
}

impl Replication {
    /// Reads the answer to `INFO replication`; `None` when it is none.
    pub(super) fn parse(info: &str) -> Option<Self> {
        let field =
            |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        let replicas = info.lines().filter_map(|line| {
            let (name, state) = line.split_once(':')?;
            let number = name.strip_prefix("slave")?;
            if number.is_empty() || !number.bytes().all(|digit| digit.is_ascii_digit()) {
                return None;
            }
            let part = |name: &str| state.trim().split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            (part("state") == Some("online")).then(|| part("offset")?.parse().ok()).flatten()
        });
        Some(Self {
            is_master: field("role")? == "master",
            offset: field("master_repl_offset")?.parse().ok()?,
            replicas: replicas.collect(),
        })
    }
}

/// Up to which time writes are safe.
pub(super) struct SafeWrites {
    /// When the master was asked, and how far it was then; oldest first.
    asked: VecDeque<(Instant, u64)>,
    safe_at: Instant,
}

impl SafeWrites {
    pub(super) fn new(connected_at: Instant) -> Self {
        Self { asked: VecDeque::new(), safe_at: connected_at }
    }

    /// Takes what the master answered to a question at this time. Returns up to which time writes are safe: all replicas have
    /// them, because the Sentinels may promote any, or they are older than [`REPLICATION_TIMEOUT`].
    pub(super) fn record(&mut self, at: Instant, replication: &Replication) -> Instant {
        self.asked.push_back((at, replication.offset));
        let confirmed = replication.replicas.iter().min().copied();
        while let Some((asked_at, offset)) = self.asked.front() {
            let is_replicated = confirmed.is_some_and(|confirmed| confirmed >= *offset);
            if !is_replicated && at.duration_since(*asked_at) < REPLICATION_TIMEOUT {
                break;
            }
            self.safe_at = *asked_at;
            self.asked.pop_front();
        }
        self.safe_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "# Replication\r\nrole:master\r\nconnected_slaves:3\r\n\
        slave0:ip=127.0.0.1,port=2,state=online,offset=90,lag=1\r\n\
        slave1:ip=127.0.0.1,port=3,state=online,offset=100,lag=0\r\n\
        slave2:ip=127.0.0.1,port=4,state=wait_bgsave,offset=0,lag=0\r\n\
        master_failover_state:no-failover\r\nmaster_repl_offset:100\r\nsecond_repl_offset:-1\r\n";

    #[test]
    fn info_tells_role_and_offsets() {
        let master = Replication::parse(MASTER).unwrap();
        assert_eq!(master, Replication { is_master: true, offset: 100, replicas: vec![90, 100] });
        let replica = "role:slave\r\nslave_repl_offset:7\r\nslave_priority:100\r\nmaster_repl_offset:7\r\n";
        let replica = Replication::parse(replica).unwrap();
        assert_eq!(replica, Replication { is_master: false, offset: 7, replicas: vec![] });
        assert_eq!(Replication::parse("redis_version:7.0.15\r\n"), None);
    }

    #[test]
    fn writes_are_safe_once_all_replicas_have_them() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut safe = SafeWrites::new(begin);
        let master = |offset, replicas: &[u64]| Replication { is_master: true, offset, replicas: replicas.to_vec() };
        assert_eq!(safe.record(at(250), &master(100, &[100, 100])), at(250));
        assert_eq!(safe.record(at(500), &master(200, &[200, 100])), at(250), "any of them may be promoted");
        assert_eq!(safe.record(at(750), &master(300, &[300, 200])), at(500));
        assert_eq!(safe.record(at(1_000), &master(300, &[300, 300])), at(1_000));
    }

    #[test]
    fn master_without_replicas_is_believed_later() {
        let begin = Instant::now();
        let mut safe = SafeWrites::new(begin);
        let alone = Replication { is_master: true, offset: 5, replicas: Vec::new() };
        let seconds = |seconds| begin + Duration::from_secs(seconds);
        for second in 0..10 {
            assert_eq!(safe.record(seconds(second), &alone), begin);
        }
        assert_eq!(safe.record(seconds(11), &alone), seconds(1));
        assert_eq!(safe.record(seconds(12), &alone), seconds(2));
    }
}
