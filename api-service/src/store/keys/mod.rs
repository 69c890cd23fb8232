//! Keys of content at rest: the data keys that seal and open messages, and the jobs of operators that change them.

pub(in crate::store) mod data_keys;
pub(in crate::store) mod encryption_backfill;
pub(in crate::store) mod master_keys;
pub(in crate::store) mod purge;
pub(in crate::store) mod running_services;
