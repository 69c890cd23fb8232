//! Answers that were made and are not on their way yet, because their clients do not read: their bytes are bounded, in all and
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
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of one user or contact.
const MOST_BYTES_OF_PERSON: usize = 8 * 1024 * 1024;
/// Most bytes of one service, which reads for many.
const MOST_BYTES_OF_SERVICE: usize = 32 * 1024 * 1024;
/// What a caller may have though all together have too much: two pages.
const ALWAYS_BYTES: usize = 1024 * 1024;
/// The kernel takes smaller answers at once.
const LEAST_BYTES: usize = 16 * 1024;
/// An answer that waits for less may be read at this moment: it is not cut.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Whose bytes are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The caller's.
    Caller,
    /// All of them.
    Process,
}

/// How many bytes wait.
#[derive(Debug, Default)]
pub struct Unsent {
    /// A copy of what `waiting` says, for whoever only asks whether there is much.
    total: AtomicUsize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    callers: HashMap<Actor, Answers>,
    /// Bytes of all answers, without those that were cut and are about to go.
    total: usize,
    last: u64,
    /// [`LEAST_AGE`]
    least_age: Duration,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { callers: HashMap::new(), total: 0, last: 0, least_age: LEAST_AGE }
    }
}

/// The answers of a caller.
#[derive(Debug, Default)]
struct Answers {
    bytes: usize,
    /// By number: the oldest first.
    waiting: BTreeMap<u64, Answer>,
}

#[derive(Debug)]
struct Answer {
    bytes: usize,
    since: Instant,
    /// None when it cannot be cut, or was.
    connection: Option<Connection>,
    was_cut: bool,
}

impl Unsent {
    /// Whether a caller may have something made that can be large.
    pub(crate) fn check(&self, caller: &Actor) -> Result<(), Full> {
        let total = self.total.load(Ordering::Relaxed);
        // Nobody has more than there is: most requests look into no map.
        if total < most(caller) && total < MOST_BYTES {
            return Ok(());
        }
        self.waiting.lock().admit(caller, 1).map_err(counted)
    }

    /// The same body, whose bytes count until they are on their way over `connection`, which may be cut for them.
    ///
    /// # Errors
    /// When the caller may not have so much more. Several may have been asked for at once, each of which was welcome then.
    pub(crate) fn hold(
        self: &Arc<Self>,
        caller: &Actor,
        connection: Option<Connection>,
        body: Bytes,
    ) -> Result<Bytes, Full> {
        if body.len() < LEAST_BYTES {
            return Ok(body);
        }
        self.waiting.lock().admit(caller, body.len()).map_err(counted)?;
        Ok(self.hold_anyway(caller, connection, body))
    }

    /// The same, for what must be said: the answer to a request that has changed something.
    pub(crate) fn hold_anyway(self: &Arc<Self>, caller: &Actor, connection: Option<Connection>, body: Bytes) -> Bytes {
        if body.len() < LEAST_BYTES {
            return body;
        }
        let bytes = body.len();
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        waiting.total += bytes;
        let number = waiting.last;
        let answers = waiting.callers.entry(caller.clone()).or_default();
        answers.bytes += bytes;
        answers.waiting.insert(number, Answer { bytes, since: Instant::now(), connection, was_cut: false });
        self.total.store(waiting.total, Ordering::Relaxed);
        drop(waiting);
        metrics::gauge!("http_unsent_bytes").increment(bytes as f64);
        Bytes::from_owner(Held { body, number, caller: caller.clone(), unsent: self.clone() })
    }
}

fn most(caller: &Actor) -> usize {
    match caller {
        Actor::Person(_) => MOST_BYTES_OF_PERSON,
        Actor::Service { .. } => MOST_BYTES_OF_SERVICE,
    }
}

fn counted(full: Full) -> Full {
    let label = match full {
        Full::Caller => "caller",
        Full::Process => "process",
    };
    metrics::counter!("http_unsent_refused_total", "of" => label).increment(1);
    full
}

impl Waiting {
    /// Whether a caller may have so many bytes more. Cuts answers of others that nobody reads, where there is no room.
    fn admit(&mut self, caller: &Actor, bytes: usize) -> Result<(), Full> {
        let theirs = self.callers.get(caller).map_or(0, |answers| answers.bytes) + bytes;
        if theirs > most(caller) {
            return Err(Full::Caller);
        }
        while self.total + bytes > MOST_BYTES {
            if !self.cut() {
                return if theirs > ALWAYS_BYTES { Err(Full::Process) } else { Ok(()) };
            }
        }
        Ok(())
    }

    /// Cuts the oldest answer of whoever has most, among those whose oldest answer has waited for long enough. False when there is none.
    fn cut(&mut self) -> bool {
        let least_age = self.least_age;
        let may_be_cut = |answer: &Answer| answer.connection.is_some() && answer.since.elapsed() >= least_age;
        let stuck = self.callers.values_mut().filter_map(|answers| {
            let (number, _) = answers.waiting.iter().find(|(_, answer)| may_be_cut(answer))?;
            Some((answers.bytes, *number, answers))
        });
        let Some((_, number, answers)) = stuck.max_by_key(|(bytes, ..)| *bytes) else { return false };
        // Its bytes stay the caller's until they are given back, so nobody gets more by being cut.
        let Some(answer) = answers.waiting.get_mut(&number) else { return false };
        let Some(connection) = answer.connection.take() else { return false };
        self.total -= answer.bytes;
        answer.was_cut = true;
        connection.cut();
        metrics::counter!("http_unsent_cut_total").increment(1);
        true
    }

    /// An answer is on its way, or its connection has ended.
    fn release(&mut self, caller: &Actor, number: u64) {
        let Some(answers) = self.callers.get_mut(caller) else { return };
        let Some(answer) = answers.waiting.remove(&number) else { return };
        answers.bytes -= answer.bytes;
        if answers.waiting.is_empty() {
            self.callers.remove(caller);
        }
        if !answer.was_cut {
            self.total -= answer.bytes;
        }
    }
}

/// A body that counts.
struct Held {
    body: Bytes,
    number: u64,
    caller: Actor,
    unsent: Arc<Unsent>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut waiting = self.unsent.waiting.lock();
        waiting.release(&self.caller, self.number);
        self.unsent.total.store(waiting.total, Ordering::Relaxed);
        drop(waiting);
        metrics::gauge!("http_unsent_bytes").decrement(self.body.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn person(id: usize) -> Actor {
        Actor::Person(format!("user:{id}").parse().unwrap())
    }

    fn body(length: usize) -> Bytes {
        Bytes::from(vec![b'x'; length])
    }

    fn hold(unsent: &Arc<Unsent>, caller: &Actor, length: usize) -> Result<Bytes, Full> {
        unsent.hold(caller, None, body(length))
    }

    #[test]
    fn who_does_not_read_gets_nothing_large_until_it_has_read_and_nobody_else_minds() {
        let unsent = Arc::new(Unsent::default());
        let held: Vec<Bytes> = (0..8).map(|_| hold(&unsent, &person(1), MIB).unwrap()).collect();
        assert_eq!(held[0], body(MIB), "it is the same body");
        assert_eq!((unsent.check(&person(1)), unsent.check(&person(2))), (Err(Full::Caller), Ok(())));
        let service = Actor::Service { name: "ehr".parse().unwrap(), admin: false };
        let _of_service: Vec<Bytes> = (0..31).map(|_| hold(&unsent, &service, MIB).unwrap()).collect();
        assert_eq!(unsent.check(&service), Ok(()));
        drop(held);
        assert_eq!(unsent.check(&person(1)), Ok(()));
    }

    #[test]
    fn what_one_asks_for_at_once_is_bounded_though_each_was_welcome() {
        let unsent = Arc::new(Unsent::default());
        for _ in 0..130 {
            assert_eq!(unsent.check(&person(1)), Ok(()));
        }
        let held: Vec<Bytes> = (0..130).filter_map(|_| hold(&unsent, &person(1), MIB / 2).ok()).collect();
        assert_eq!(held.len(), 16);
        assert_eq!(hold(&unsent, &person(1), MIB), Err(Full::Caller));
        let _said = unsent.hold_anyway(&person(1), None, body(MIB));
        assert_eq!((unsent.check(&person(2)), hold(&unsent, &person(2), MIB).is_ok()), (Ok(()), true));
    }

    #[test]
    fn when_all_together_have_too_much_only_those_are_refused_who_have_much_themselves() {
        let unsent = Arc::new(Unsent::default());
        let held: Vec<Bytes> = (0..64).map(|number| hold(&unsent, &person(number / 8), MIB).unwrap()).collect();
        let little = hold(&unsent, &person(100), MIB).unwrap();
        assert_eq!(unsent.check(&person(100)), Err(Full::Process));
        assert_eq!(hold(&unsent, &person(100), MIB), Err(Full::Process));
        assert_eq!(unsent.check(&person(101)), Ok(()), "whoever has nothing is not refused");
        drop((held, little));
        assert_eq!(unsent.check(&person(100)), Ok(()));
        assert!(unsent.total.load(Ordering::Relaxed) == 0 && unsent.waiting.lock().callers.is_empty());
    }

    #[test]
    fn the_oldest_answer_of_whoever_has_most_makes_room() {
        let unsent = Arc::new(Unsent::default());
        let connections: Vec<Connection> = (0..64).map(|_| Connection::default()).collect();
        let mut held: Vec<Option<Bytes>> = connections
            .iter()
            .enumerate()
            .map(|(number, connection)| {
                // The first has eight, the others seven at most.
                let caller = person(if number < 8 { 0 } else { 1 + (number - 8) / 7 });
                Some(unsent.hold(&caller, Some(connection.clone()), body(MIB)).unwrap())
            })
            .collect();
        let mut reader = vec![hold(&unsent, &person(100), MIB).unwrap()];
        assert_eq!(hold(&unsent, &person(100), MIB), Err(Full::Process), "they may be read at this moment");
        let cut = || connections.iter().filter(|connection| connection.is_cut()).count();
        assert_eq!(cut(), 0);
        unsent.waiting.lock().least_age = Duration::ZERO;
        for _ in 0..2 {
            reader.push(hold(&unsent, &person(100), MIB).unwrap());
        }
        assert_eq!(cut(), 3, "as many as there was too much");
        assert!(connections[..3].iter().all(Connection::is_cut));
        // A caller does not gain by being cut: its bytes are its own until they are given back.
        assert_eq!(hold(&unsent, &person(0), MIB), Err(Full::Caller));
        for (connection, held) in connections.iter().zip(&mut held) {
            if connection.is_cut() {
                drop(held.take());
            }
        }
        assert_eq!(unsent.total.load(Ordering::Relaxed), 64 * MIB);
        drop((held, reader));
        assert!(unsent.total.load(Ordering::Relaxed) == 0 && unsent.waiting.lock().callers.is_empty());
    }

    #[test]
    fn small_answers_do_not_count() {
        let unsent = Arc::new(Unsent::default());
        let _held: Vec<Bytes> = (0..1000).map(|_| hold(&unsent, &person(1), LEAST_BYTES - 1).unwrap()).collect();
        assert_eq!(unsent.total.load(Ordering::Relaxed), 0);
    }
}
