//! The jobs of operators on the keys of content at rest, and the register of services that hold them.

pub(in crate::store) mod encryption_backfill;
pub(in crate::store) mod master_keys;
pub(in crate::store) mod purge;
pub(in crate::store) mod running_services;
