//! Buffers that a socket needs while it works, and not while it waits: one set a thread serves all of them.

use std::cell::RefCell;

use crate::outbound::Item;

/// Bytes that go into one write, more or less: what a socket that is stuck may hold of its own.
pub(super) const ROUND_BYTES: usize = 32 * 1024;
/// Read at a time.
const INPUT_BYTES: usize = 16 * 1024;
/// Larger ones are given back.
const KEPT_BYTES: usize = 8 * ROUND_BYTES;

pub(super) struct Scratch {
    pub(super) input: Box<[u8]>,
    pub(super) out: Vec<u8>,
    pub(super) items: Vec<Item>,
}

impl Scratch {
    /// Leaves nothing of one socket to the next.
    pub(super) fn clear(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES);
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

/// Lends this thread's buffers. Not to be asked for by whoever has them.
pub(super) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(work)
}
