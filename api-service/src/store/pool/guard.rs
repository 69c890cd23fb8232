//! A connection in use.

use deadpool_postgres::Object;

use crate::store::StoreError;

/// Closes the connection when its use is cut off, instead of returning it to the pool.
pub(in crate::store) struct ConnectionGuard(Option<Object>);

impl ConnectionGuard {
    pub(in crate::store) fn new(object: Object) -> Self {
        Self(Some(object))
    }

    pub(in crate::store) fn client(&mut self) -> Result<&mut Object, StoreError> {
        self.0.as_mut().ok_or_else(|| StoreError::internal("no connection"))
    }

    /// The connection is idle.
    pub(in crate::store) fn release(mut self) {
        drop(self.0.take());
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}
