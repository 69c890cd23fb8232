//! The schema and the rights on it: what migrations make, what the service is granted, and whether a database has both.

pub(in crate::store) mod excessive_rights;
mod first_unread_backfill;
pub(in crate::store) mod grants;
mod lock_wait;
pub(in crate::store) mod migrate;
pub(in crate::store) mod schema_check;
