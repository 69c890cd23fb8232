//! Rows in PostgreSQL's binary COPY format ("COPY", "File Formats"): big-endian, each value behind its length.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

/// Microseconds from 1970 to 2000, PostgreSQL's beginning of time.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Rows that are not sent yet.
pub(crate) struct Rows(BytesMut);

impl Rows {
    /// The beginning of a COPY.
    pub(crate) fn new() -> Self {
        let mut buffer = BytesMut::from(&b"PGCOPY\n\xff\r\n\0"[..]);
        buffer.put_u64(0); // No flags, no extension.
        Self(buffer)
    }

    pub(crate) fn begin(&mut self, columns: i16) {
        self.0.put_i16(columns);
    }

    /// The end of a COPY.
    pub(crate) fn end(&mut self) {
        self.0.put_i16(-1);
    }

    pub(crate) fn uuid(&mut self, value: Option<Uuid>) {
        match value {
            Some(value) => self.value(value.as_bytes()),
            None => self.null(),
        }
    }

    pub(crate) fn text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.value(value.as_bytes()),
            None => self.null(),
        }
    }

    /// A time, in microseconds since 1970.
    pub(crate) fn time(&mut self, value_us: Option<i64>) {
        match value_us {
            Some(value) => self.value(&(value - EPOCH_US).to_be_bytes()),
            None => self.null(),
        }
    }

    pub(crate) fn bigint(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.value(&value.to_be_bytes()),
            None => self.null(),
        }
    }

    pub(crate) fn integer(&mut self, value: i32) {
        self.value(&value.to_be_bytes());
    }

    /// What there is to send, when it is worth a write.
    pub(crate) fn full(&mut self) -> Option<BytesMut> {
        (self.0.len() > 256 * 1024).then(|| self.0.split())
    }

    pub(crate) fn rest(self) -> BytesMut {
        self.0
    }

    fn value(&mut self, bytes: &[u8]) {
        self.0.put_u32(bytes.len() as u32);
        self.0.put_slice(bytes);
    }

    fn null(&mut self) {
        self.0.put_i32(-1);
    }
}
