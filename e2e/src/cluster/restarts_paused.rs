//! A time in which nobody starts what dies.

use anyhow::Result;
use stack::{Signal, Stack};

/// Nobody starts what dies in this stack, until this is dropped.
#[derive(Debug)]
pub struct RestartsPaused<'a>(&'a Stack);

impl<'a> RestartsPaused<'a> {
    /// From now on.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn new(stack: &'a Stack) -> Result<Self> {
        stack.kill(stack.pid(), Signal::SIGSTOP)?;
        Ok(Self(stack))
    }
}

impl Drop for RestartsPaused<'_> {
    fn drop(&mut self) {
        // Where there is no stack any more, nobody waits for it.
        let _gone = self.0.kill(self.0.pid(), Signal::SIGCONT);
    }
}
