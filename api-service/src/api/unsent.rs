//! Answers that were made and are not on their way yet, because their clients do not read: their bytes are bounded, in all and
//! for each caller. The connection of one who reads nothing is cut (`server`), which gives them back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use shared::token::Actor;

/// Most bytes of all callers.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// Most bytes of one user or contact.
const MOST_BYTES_OF_PERSON: usize = 8 * 1024 * 1024;
/// Most bytes of one service, which reads for many.
const MOST_BYTES_OF_SERVICE: usize = 32 * 1024 * 1024;
/// The kernel takes smaller answers at once.
const LEAST_BYTES: usize = 16 * 1024;

/// Whose bytes are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The caller's.
    Caller,
    /// All of them.
    Process,
}

/// How many bytes wait.
#[derive(Debug, Default)]
pub struct Unsent {
    total: AtomicUsize,
    callers: Mutex<HashMap<Actor, usize>>,
}

impl Unsent {
    /// Whether a caller may have something made that can be large.
    pub(super) fn check(&self, caller: &Actor) -> Result<(), Full> {
        let total = self.total.load(Ordering::Relaxed);
        let (most, label, full) = match caller {
            _ if total >= MOST_BYTES => (0, "process", Full::Process),
            Actor::Person(_) => (MOST_BYTES_OF_PERSON, "caller", Full::Caller),
            Actor::Service { .. } => (MOST_BYTES_OF_SERVICE, "caller", Full::Caller),
        };
        // Nobody has more than there is: most requests look into no map.
        if total < most || self.callers.lock().get(caller).copied().unwrap_or(0) < most {
            return Ok(());
        }
        metrics::counter!("http_unsent_refused_total", "of" => label).increment(1);
        Err(full)
    }

    /// The same body, whose bytes count until they are on their way.
    pub(super) fn hold(self: &Arc<Self>, caller: &Actor, body: Bytes) -> Bytes {
        if body.len() < LEAST_BYTES {
            return body;
        }
        let length = body.len();
        self.total.fetch_add(length, Ordering::Relaxed);
        metrics::gauge!("http_unsent_bytes").increment(length as f64);
        *self.callers.lock().entry(caller.clone()).or_default() += length;
        Bytes::from_owner(Held { body, caller: caller.clone(), unsent: self.clone() })
    }
}

/// A body that counts.
struct Held {
    body: Bytes,
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
        let length = self.body.len();
        self.unsent.total.fetch_sub(length, Ordering::Relaxed);
        metrics::gauge!("http_unsent_bytes").decrement(length as f64);
        let mut callers = self.unsent.callers.lock();
        if let Some(bytes) = callers.get_mut(&self.caller) {
            *bytes -= length;
            if *bytes == 0 {
                callers.remove(&self.caller);
            }
        }
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

    #[test]
    fn who_does_not_read_gets_nothing_large_until_it_has_read_and_nobody_else_minds() {
        let unsent = Arc::new(Unsent::default());
        let held: Vec<Bytes> = (0..8).map(|_| unsent.hold(&person(1), body(MIB))).collect();
        assert_eq!(held[0], body(MIB), "it is the same body");
        assert_eq!((unsent.check(&person(1)), unsent.check(&person(2))), (Err(Full::Caller), Ok(())));
        let service = Actor::Service { name: "ehr".parse().unwrap(), admin: false };
        let _of_service: Vec<Bytes> = (0..31).map(|_| unsent.hold(&service, body(MIB))).collect();
        assert_eq!(unsent.check(&service), Ok(()));
        drop(held);
        assert_eq!(unsent.check(&person(1)), Ok(()));
    }

    #[test]
    fn all_together_have_a_bound_and_all_is_given_back() {
        let unsent = Arc::new(Unsent::default());
        let held: Vec<Bytes> = (0..64).map(|n| unsent.hold(&person(n), body(MIB))).collect();
        assert_eq!(unsent.check(&person(100)), Err(Full::Process));
        drop(held);
        assert_eq!(unsent.check(&person(100)), Ok(()));
        assert!(unsent.total.load(Ordering::Relaxed) == 0 && unsent.callers.lock().is_empty());
    }

    #[test]
    fn small_answers_do_not_count() {
        let unsent = Arc::new(Unsent::default());
        let _held: Vec<Bytes> = (0..1000).map(|_| unsent.hold(&person(1), body(LEAST_BYTES - 1))).collect();
        assert_eq!(unsent.total.load(Ordering::Relaxed), 0);
    }
}
