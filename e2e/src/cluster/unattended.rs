//! A time in which nobody starts what dies.

use anyhow::Result;
use stack::{Signal, Stack};

/// Nobody starts what dies in this stack, until this is dropped.
#[derive(Debug)]
pub struct Unattended<'a>(&'a Stack);

impl<'a> Unattended<'a> {
    /// From now on.
    ///
    /// # Errors
    /// When the stack has ended.
    pub fn begin(stack: &'a Stack) -> Result<Self> {
        stack.kill(stack.pid(), Signal::SIGSTOP)?;
        Ok(Self(stack))
    }
}

impl Drop for Unattended<'_> {
    fn drop(&mut self) {
        // Where there is no stack any more, nobody waits for it.
        let _gone = self.0.kill(self.0.pid(), Signal::SIGCONT);
    }
}
