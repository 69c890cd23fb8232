//! A time in which what dies is not restarted.

use anyhow::Result;
use stack::{Signal, Stack};

/// What dies in this stack is not restarted until this is dropped.
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
        // A stack that has ended needs no signal.
        let _gone = self.0.kill(self.0.pid(), Signal::SIGCONT);
    }
}
