//! How long faults last, and how long their end may take.

use std::time::Duration;

/// Time in which a process is restarted, or ends in order.
pub(super) const WAIT_TIMEOUT: Duration = Duration::from_secs(40);
/// Time for which a frozen process stands still.
pub(super) const FROZEN: Duration = Duration::from_secs(6);
/// Time for which a link is silent: twice the time that services wait for a sign of life.
pub(super) const SILENT: Duration = Duration::from_secs(6);
