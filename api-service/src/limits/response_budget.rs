//! Bounds the bytes of responses that clients have not read yet, per caller and in total.
//!
//! The bound of a caller is exact: a response that would exceed it is rejected. When the total is exceeded, the oldest response
//! of the largest caller is aborted with its connection. Only callers that have unread responses are rejected then. So a few
//! clients that do not read cannot keep others from reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use shared::contract::token::Actor;

use crate::limits::connection::Connection;

/// Bytes of all callers.
const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of one user or contact.
const MAX_PARTICIPANT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one service, which reads for many.
const MAX_SERVICE_BYTES: usize = 32 * 1024 * 1024;
/// Always granted to a caller, even when the total is exceeded: two pages.
const GUARANTEED_BYTES: usize = 1024 * 1024;
/// Smaller responses fit the kernel's buffer and are not tracked.
const MIN_TRACKED_BYTES: usize = 16 * 1024;
/// A younger response may be being read right now, so it is not aborted.
const MIN_ABORT_AGE: Duration = Duration::from_secs(1);

/// Which bound is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetError {
    /// The caller's own.
    Caller,
    /// The total.
    Process,
}

/// Tracks unread bytes.
#[derive(Debug, Default)]
pub struct ResponseBudget {
    /// A copy of the total, for the fast check.
    total: AtomicUsize,
    waiting: Mutex<BudgetState>,
}

#[derive(Debug)]
struct BudgetState {
    callers: HashMap<Actor, CallerResponses>,
    /// Bytes of all responses, except those that were aborted.
    total: usize,
    last: u64,
    min_abort_age: Duration,
}

impl Default for BudgetState {
    fn default() -> Self {
        Self { callers: HashMap::new(), total: 0, last: 0, min_abort_age: MIN_ABORT_AGE }
    }
}

/// Unread responses of a caller.
#[derive(Debug, Default)]
struct CallerResponses {
    bytes: usize,
    /// By number, oldest first.
    waiting: BTreeMap<u64, PendingResponse>,
}

#[derive(Debug)]
struct PendingResponse {
    bytes: usize,
    since: Instant,
    /// `None` when it cannot be aborted, or was.
    connection: Option<Connection>,
    was_aborted: bool,
}

impl ResponseBudget {
    /// Whether a caller may produce a large response now.
    pub(crate) fn check(&self, caller: &Actor) -> Result<(), BudgetError> {
        let total = self.total.load(Ordering::Relaxed);
        // No caller can have more than the total, so most requests skip the lock.
        if total < caller_limit(caller) && total < MAX_TOTAL_BYTES {
            return Ok(());
        }
        self.waiting.lock().admit(caller, 1).map_err(count_rejection)
    }

    /// Tracks a body until it is sent over `connection`, which may be aborted to free its bytes.
    ///
    /// # Errors
    /// When the caller's bound would be exceeded: concurrent requests may all have passed [`ResponseBudget::check`].
    pub(crate) fn track(
        self: &Arc<Self>,
        caller: &Actor,
        connection: Option<Connection>,
        body: Bytes,
    ) -> Result<Bytes, BudgetError> {
        if body.len() < MIN_TRACKED_BYTES {
            return Ok(body);
        }
        self.waiting.lock().admit(caller, body.len()).map_err(count_rejection)?;
        Ok(self.force_track(caller, connection, body))
    }

    /// Tracks without a bound, for responses that must be given because they report a change.
    pub(crate) fn force_track(self: &Arc<Self>, caller: &Actor, connection: Option<Connection>, body: Bytes) -> Bytes {
        if body.len() < MIN_TRACKED_BYTES {
            return body;
        }
        let bytes = body.len();
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        waiting.total += bytes;
        let number = waiting.last;
        let responses = waiting.callers.entry(caller.clone()).or_default();
        responses.bytes += bytes;
        responses
            .waiting
            .insert(number, PendingResponse { bytes, since: Instant::now(), connection, was_aborted: false });
        self.total.store(waiting.total, Ordering::Relaxed);
        drop(waiting);
        metrics::gauge!("ehr_chat_http_unsent_bytes").increment(bytes as f64);
        Bytes::from_owner(TrackedBody { body, number, caller: caller.clone(), budget: self.clone() })
    }
}

fn caller_limit(caller: &Actor) -> usize {
    match caller {
        Actor::Participant(_) => MAX_PARTICIPANT_BYTES,
        Actor::Service { .. } => MAX_SERVICE_BYTES,
    }
}

fn count_rejection(error: BudgetError) -> BudgetError {
    let label = match error {
        BudgetError::Caller => "caller",
        BudgetError::Process => "process",
    };
    metrics::counter!("ehr_chat_http_unsent_rejected_total", "of" => label).increment(1);
    error
}

impl BudgetState {
    /// Checks both bounds. Aborts responses of other callers to make room in the total.
    fn admit(&mut self, caller: &Actor, bytes: usize) -> Result<(), BudgetError> {
        let caller_bytes = self.callers.get(caller).map_or(0, |responses| responses.bytes) + bytes;
        if caller_bytes > caller_limit(caller) {
            return Err(BudgetError::Caller);
        }
        while self.total + bytes > MAX_TOTAL_BYTES {
            if !self.abort_oldest() {
                return if caller_bytes > GUARANTEED_BYTES { Err(BudgetError::Process) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Aborts the oldest response of the largest caller, among responses older than `min_abort_age`. Returns `false` if there is
    /// none.
    fn abort_oldest(&mut self) -> bool {
        let min_abort_age = self.min_abort_age;
        let may_be_aborted =
            |response: &PendingResponse| response.connection.is_some() && response.since.elapsed() >= min_abort_age;
        let stuck = self.callers.values_mut().filter_map(|responses| {
            let (number, _) = responses.waiting.iter().find(|(_, response)| may_be_aborted(response))?;
            Some((responses.bytes, *number, responses))
        });
        let Some((_, number, responses)) = stuck.max_by_key(|(bytes, ..)| *bytes) else { return false };
        // The bytes stay charged to the caller until the connection is gone, so an abort gains nothing.
        let Some(response) = responses.waiting.get_mut(&number) else { return false };
        let Some(connection) = response.connection.take() else { return false };
        self.total -= response.bytes;
        response.was_aborted = true;
        connection.abort();
        metrics::counter!("ehr_chat_http_unsent_cut_total").increment(1);
        true
    }

    /// The response was sent, or its connection has ended.
    fn release(&mut self, caller: &Actor, number: u64) {
        let Some(responses) = self.callers.get_mut(caller) else { return };
        let Some(response) = responses.waiting.remove(&number) else { return };
        responses.bytes -= response.bytes;
        if responses.waiting.is_empty() {
            self.callers.remove(caller);
        }
        if !response.was_aborted {
            self.total -= response.bytes;
        }
    }
}

/// A body whose bytes are tracked.
struct TrackedBody {
    body: Bytes,
    number: u64,
    caller: Actor,
    budget: Arc<ResponseBudget>,
}

impl AsRef<[u8]> for TrackedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        let mut waiting = self.budget.waiting.lock();
        waiting.release(&self.caller, self.number);
        self.budget.total.store(waiting.total, Ordering::Relaxed);
        drop(waiting);
        metrics::gauge!("ehr_chat_http_unsent_bytes").decrement(self.body.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn person(id: usize) -> Actor {
        Actor::Participant(format!("user:{id}").parse().unwrap())
    }

    fn body(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    fn track(budget: &Arc<ResponseBudget>, caller: &Actor, length: usize) -> Result<Bytes, BudgetError> {
        budget.track(caller, None, body(length))
    }

    #[test]
    fn caller_bound_rejects_only_that_caller_until_it_reads() {
        let budget = Arc::new(ResponseBudget::default());
        let held: Vec<Bytes> = (0..8).map(|_| track(&budget, &person(1), MIB).unwrap()).collect();
        assert_eq!(held[0], body(MIB), "it is the same body");
        assert_eq!((budget.check(&person(1)), budget.check(&person(2))), (Err(BudgetError::Caller), Ok(())));
        let service = Actor::Service { name: "ehr".parse().unwrap(), admin: false };
        let _of_service: Vec<Bytes> = (0..31).map(|_| track(&budget, &service, MIB).unwrap()).collect();
        assert_eq!(budget.check(&service), Ok(()));
        drop(held);
        assert_eq!(budget.check(&person(1)), Ok(()));
    }

    #[test]
    fn concurrent_responses_of_one_caller_are_bounded() {
        let budget = Arc::new(ResponseBudget::default());
        for _ in 0..130 {
            assert_eq!(budget.check(&person(1)), Ok(()));
        }
        let held: Vec<Bytes> = (0..130).filter_map(|_| track(&budget, &person(1), MIB / 2).ok()).collect();
        assert_eq!(held.len(), 16);
        assert_eq!(track(&budget, &person(1), MIB), Err(BudgetError::Caller));
        let _said = budget.force_track(&person(1), None, body(MIB));
        assert_eq!((budget.check(&person(2)), track(&budget, &person(2), MIB).is_ok()), (Ok(()), true));
    }

    #[test]
    fn total_bound_spares_callers_with_few_bytes() {
        let budget = Arc::new(ResponseBudget::default());
        let held: Vec<Bytes> = (0..64).map(|number| track(&budget, &person(number / 8), MIB).unwrap()).collect();
        let little = track(&budget, &person(100), MIB).unwrap();
        assert_eq!(budget.check(&person(100)), Err(BudgetError::Process));
        assert_eq!(track(&budget, &person(100), MIB), Err(BudgetError::Process));
        assert_eq!(budget.check(&person(101)), Ok(()), "callers without unread responses are accepted");
        drop((held, little));
        assert_eq!(budget.check(&person(100)), Ok(()));
        assert!(budget.total.load(Ordering::Relaxed) == 0 && budget.waiting.lock().callers.is_empty());
    }

    #[test]
    fn oldest_response_of_largest_caller_is_aborted() {
        let budget = Arc::new(ResponseBudget::default());
        let connections: Vec<Connection> = (0..64).map(|_| Connection::default()).collect();
        let mut held: Vec<Option<Bytes>> = connections
            .iter()
            .enumerate()
            .map(|(number, connection)| {
                // The first caller has eight, the others at most seven.
                let caller = person(if number < 8 { 0 } else { 1 + (number - 8) / 7 });
                Some(budget.track(&caller, Some(connection.clone()), body(MIB)).unwrap())
            })
            .collect();
        let mut reader = vec![track(&budget, &person(100), MIB).unwrap()];
        assert_eq!(track(&budget, &person(100), MIB), Err(BudgetError::Process), "they may be read at this moment");
        let cut = || connections.iter().filter(|connection| connection.is_aborted()).count();
        assert_eq!(cut(), 0);
        budget.waiting.lock().min_abort_age = Duration::ZERO;
        for _ in 0..2 {
            reader.push(track(&budget, &person(100), MIB).unwrap());
        }
        assert_eq!(cut(), 3, "as many as there was too much");
        assert!(connections[..3].iter().all(Connection::is_aborted));
        // The bytes of an aborted response stay charged until they are released.
        assert_eq!(track(&budget, &person(0), MIB), Err(BudgetError::Caller));
        for (connection, held) in connections.iter().zip(&mut held) {
            if connection.is_aborted() {
                drop(held.take());
            }
        }
        assert_eq!(budget.total.load(Ordering::Relaxed), 64 * MIB);
        drop((held, reader));
        assert!(budget.total.load(Ordering::Relaxed) == 0 && budget.waiting.lock().callers.is_empty());
    }

    #[test]
    fn small_responses_are_not_tracked() {
        let budget = Arc::new(ResponseBudget::default());
        let _held: Vec<Bytes> = (0..1000).map(|_| track(&budget, &person(1), MIN_TRACKED_BYTES - 1).unwrap()).collect();
        assert_eq!(budget.total.load(Ordering::Relaxed), 0);
    }
}
