//! Buffers that a session needs only while it is polled. One set per thread serves all sessions.

use std::cell::RefCell;

use crate::socket::QueueItem;

/// Approximate size of one write, and so of what a blocked session holds.
pub(super) const WRITE_BATCH_BYTES: usize = 32 * 1024;
/// Bytes per read. Replies are at most 16 times as long as the frames, so they fit one batch.
pub(super) const INPUT_BYTES: usize = 2 * 1024;
/// Larger buffers are freed.
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

/// Clears the buffers, even after a panic, so that no session sees another's data.
struct ScratchGuard<'a>(&'a mut Scratch);

impl Drop for ScratchGuard<'_> {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Borrows this thread's buffers. Calls must not be nested.
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
    fn scratch_is_cleared_between_sessions() {
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
