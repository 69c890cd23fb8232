//! CallerResponses that were made and are not on their way yet, because their clients do not read: their bytes are bounded, in all and
//! for each caller. The connection of one who reads nothing is cut (`server`), which gives them back.
//!
//! A caller's own bound is exact: an answer that would exceed it is not given. When all callers together have too much, the oldest
//! answer of whoever has most is cut, and refused are only those who have answers waiting themselves. So a few who do not read
//! keep nobody else from reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use shared::token::Actor;

use crate::http::server::connection::Connection;

/// Most bytes of all callers.
const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of one user or contact.
const MAX_PARTICIPANT_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of one service, which reads for many.
const MAX_SERVICE_BYTES: usize = 32 * 1024 * 1024;
/// What a caller may have though all together have too much: two pages.
const GUARANTEED_BYTES: usize = 1024 * 1024;
/// The kernel takes smaller answers at once.
const MIN_TRACKED_BYTES: usize = 16 * 1024;
/// An answer that waits for less may be read at this moment: it is not cut.
const MIN_ABORT_AGE: Duration = Duration::from_secs(1);

/// Whose bytes are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BudgetError {
    /// The caller's.
    Caller,
    /// All of them.
    Process,
}

/// How many bytes wait.
#[derive(Debug, Default)]
pub struct ResponseBudget {
    /// A copy of what `waiting` says, for whoever only asks whether there is much.
    total: AtomicUsize,
    waiting: Mutex<BudgetState>,
}

#[derive(Debug)]
struct BudgetState {
    callers: HashMap<Actor, CallerResponses>,
    /// Bytes of all answers, without those that were cut and are about to go.
    total: usize,
    last: u64,
    /// [`MIN_ABORT_AGE`]
    min_abort_age: Duration,
}

impl Default for BudgetState {
    fn default() -> Self {
        Self { callers: HashMap::new(), total: 0, last: 0, min_abort_age: MIN_ABORT_AGE }
    }
}

/// The answers of a caller.
#[derive(Debug, Default)]
struct CallerResponses {
    bytes: usize,
    /// By number: the oldest first.
    waiting: BTreeMap<u64, PendingResponse>,
}

#[derive(Debug)]
struct PendingResponse {
    bytes: usize,
    since: Instant,
    /// None when it cannot be cut, or was.
    connection: Option<Connection>,
    was_aborted: bool,
}

impl ResponseBudget {
    /// Whether a caller may have something made that can be large.
    pub(crate) fn check(&self, caller: &Actor) -> Result<(), BudgetError> {
        let total = self.total.load(Ordering::Relaxed);
        // Nobody has more than there is: most requests look into no map.
        if total < caller_limit(caller) && total < MAX_TOTAL_BYTES {
            return Ok(());
        }
        self.waiting.lock().admit(caller, 1).map_err(count_rejection)
    }

    /// The same body, whose bytes count until they are on their way over `connection`, which may be cut for them.
    ///
    /// # Errors
    /// When the caller may not have so much more. Several may have been asked for at once, each of which was welcome then.
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

    /// The same, for what must be said: the answer to a request that has changed something.
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
        metrics::gauge!("http_unsent_bytes").increment(bytes as f64);
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
    metrics::counter!("http_unsent_refused_total", "of" => label).increment(1);
    error
}

impl BudgetState {
    /// Whether a caller may have so many bytes more. Cuts answers of others that nobody reads, where there is no room.
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

    /// Cuts the oldest answer of whoever has most, among those whose oldest answer has waited for long enough. False when there is none.
    fn abort_oldest(&mut self) -> bool {
        let min_abort_age = self.min_abort_age;
        let may_be_aborted =
            |response: &PendingResponse| response.connection.is_some() && response.since.elapsed() >= min_abort_age;
        let stuck = self.callers.values_mut().filter_map(|responses| {
            let (number, _) = responses.waiting.iter().find(|(_, response)| may_be_aborted(response))?;
            Some((responses.bytes, *number, responses))
        });
        let Some((_, number, responses)) = stuck.max_by_key(|(bytes, ..)| *bytes) else { return false };
        // Its bytes stay the caller's until they are given back, so nobody gets more by being cut.
        let Some(response) = responses.waiting.get_mut(&number) else { return false };
        let Some(connection) = response.connection.take() else { return false };
        self.total -= response.bytes;
        response.was_aborted = true;
        connection.abort();
        metrics::counter!("http_unsent_cut_total").increment(1);
        true
    }

    /// An answer is on its way, or its connection has ended.
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

/// A body that counts.
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
        metrics::gauge!("http_unsent_bytes").decrement(self.body.len() as f64);
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
    fn who_does_not_read_gets_nothing_large_until_it_has_read_and_nobody_else_minds() {
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
    fn what_one_asks_for_at_once_is_bounded_though_each_was_welcome() {
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
    fn when_all_together_have_too_much_only_those_are_refused_who_have_much_themselves() {
        let budget = Arc::new(ResponseBudget::default());
        let held: Vec<Bytes> = (0..64).map(|number| track(&budget, &person(number / 8), MIB).unwrap()).collect();
        let little = track(&budget, &person(100), MIB).unwrap();
        assert_eq!(budget.check(&person(100)), Err(BudgetError::Process));
        assert_eq!(track(&budget, &person(100), MIB), Err(BudgetError::Process));
        assert_eq!(budget.check(&person(101)), Ok(()), "whoever has nothing is not refused");
        drop((held, little));
        assert_eq!(budget.check(&person(100)), Ok(()));
        assert!(budget.total.load(Ordering::Relaxed) == 0 && budget.waiting.lock().callers.is_empty());
    }

    #[test]
    fn the_oldest_answer_of_whoever_has_most_makes_room() {
        let budget = Arc::new(ResponseBudget::default());
        let connections: Vec<Connection> = (0..64).map(|_| Connection::default()).collect();
        let mut held: Vec<Option<Bytes>> = connections
            .iter()
            .enumerate()
            .map(|(number, connection)| {
                // The first has eight, the others seven at most.
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
        // A caller does not gain by being cut: its bytes are its own until they are given back.
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
    fn small_answers_do_not_count() {
        let budget = Arc::new(ResponseBudget::default());
        let _held: Vec<Bytes> = (0..1000).map(|_| track(&budget, &person(1), MIN_TRACKED_BYTES - 1).unwrap()).collect();
        assert_eq!(budget.total.load(Ordering::Relaxed), 0);
    }
}
