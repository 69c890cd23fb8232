//! What a stream's entries must define: their bounds, their metrics and how they merge.

use shared::contract::ids::LocationId;
use shared::contract::participant::Participant;

/// An entry of a stream.
pub(crate) trait StreamEntry: Send + Sync + Sized + 'static {
    /// Name of the producer's task.
    const TASK: &'static str;
    /// Name of the stream.
    const STREAM: &'static str;
    /// Script that adds entries, or fails. Arguments: [`StreamEntry::MAX_STREAM_LENGTH`], then entries.
    const SCRIPT: &'static str;
    /// Most entries of the stream.
    const MAX_STREAM_LENGTH: usize;
    /// Most that may wait, in units of [`StreamEntry::weight`].
    const MAX_QUEUED_WEIGHT: usize;
    /// Counts queued entries.
    const ENQUEUED_METRIC: &'static str;
    /// Counts repeated commands.
    const RETRIES_METRIC: &'static str;
    /// Bytes of entries that are kept until an API service has applied them; 0 if a loss does not matter.
    const MAX_UNCONFIRMED_BYTES: usize;
    /// Counts entries that were sent again because Redis may have lost them.
    const REPEATED_METRIC: &'static str;
    /// Counts entries that could no longer be sent again: too many were unconfirmed.
    const UNREPEATABLE_METRIC: &'static str;

    /// What the entry counts for.
    fn weight(&self) -> usize;

    /// Counts an entry that did not fit into the queue.
    fn count_overflow(weight: usize);

    /// The participant whose share the entry uses; `None` if there are no shares.
    fn owner(&self) -> Option<(&LocationId, &Participant)> {
        None
    }

    /// Splits coalesced entries into those to send now and those that let others go first.
    fn split_fair(entries: Vec<Self>) -> (Vec<Self>, Vec<Self>) {
        (entries, Vec::new())
    }

    /// Merges entries of one batch, and adds an entry for those that were lost.
    fn coalesce(entries: Vec<Self>, lost: usize) -> Vec<Self>;

    /// The only field of the stream entry.
    fn encode(&self) -> Option<String>;
}
