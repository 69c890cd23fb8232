//! Buffers that a socket needs while it works, and not while it waits: one set a thread serves all of them.

use std::cell::RefCell;

use crate::hub::outbound_queue::QueueItem;

/// Bytes that go into one write, more or less: what a socket that is stuck may hold of its own.
pub(super) const WRITE_BATCH_BYTES: usize = 32 * 1024;
/// Read at a time. The smallest frames that are answered are answered with 16 times as many bytes: no more than a round.
pub(super) const INPUT_BYTES: usize = 2 * 1024;
/// Larger ones are given back.
const MAX_KEPT_CAPACITY: usize = 8 * WRITE_BATCH_BYTES;

pub(super) struct Scratch {
    pub(super) input: Box<[u8]>,
    pub(super) out: Vec<u8>,
    pub(super) items: Vec<QueueItem>,
}

impl Scratch {
    fn clear(&mut self) {
        self.out.clear();
        self.out.shrink_to(MAX_KEPT_CAPACITY);
        self.items.clear();
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; INPUT_BYTES].into(),
        out: Vec::new(),
        items: Vec::new(),
    });
}

/// Leaves nothing of one socket to the next, not even of one whose task panics.
struct ScratchGuard<'a>(&'a mut Scratch);

impl Drop for ScratchGuard<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Lends this thread's buffers. Not to be asked for by whoever has them.
pub(super) fn with<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| {
        let guard = ScratchGuard(scratch);
        f(guard.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_the_next_socket() {
        with(|scratch| scratch.out.extend_from_slice(b"for one"));
        with(|scratch| assert!(scratch.out.is_empty()));
        let panicked = std::panic::catch_unwind(|| {
            with(|scratch| {
                scratch.out.extend_from_slice(b"for one");
                scratch.items.push(QueueItem::Degraded);
                panic!("in the midst of it");
            });
        });
        assert!(panicked.is_err());
        with(|scratch| assert!(scratch.out.is_empty() && scratch.items.is_empty()));
    }
}
