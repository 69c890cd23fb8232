//! What the engine takes for a connection: bytes that were read already, and a buffer that takes every write.

use std::io::{self, ErrorKind, Read, Write};

pub(super) struct BufferStream<'a> {
    pub(super) input: &'a [u8],
    pub(super) output: &'a mut Vec<u8>,
}

impl Read for BufferStream<'_> {
    /// Behind the input it reports `WouldBlock`, not an end: more may follow.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for BufferStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
