//! Events on their way into Redis: keys and arguments of the publishing script.

use bytes::Bytes;

use crate::contract::event::OutgoingEvent;
use crate::contract::event::relay_keys::RelayKeys;
use crate::contract::redis::keys::Channel;
use crate::kit::crypto::redacted::Redacted;
use crate::kit::crypto::seal::SealError;

/// How an event is published beside others of its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// After its predecessor: if the log does not hold the message before it, the event is too early and is not published.
    AfterPredecessor,
    /// Publishes regardless of what came before.
    Force,
    /// The same, but only if the log does not hold the event: it may have been published already.
    Deduplicate,
}

impl PublishMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::AfterPredecessor => "after_predecessor",
            Self::Force => "force",
            Self::Deduplicate => "deduplicate",
        }
    }
}

/// Keys and arguments of [`crate::kit::redis::Topology::publish_script`] for some events.
///
/// Keys: the log of each event. Arguments: most entries that a log keeps, its life in milliseconds; then seven per event: type,
/// header, body, channel, `seq` (0 if it has none), mode, and the request id (or nothing).
#[derive(Debug, Clone)]
pub struct PublishBatch {
    keys: Vec<String>,
    args: Redacted<Vec<Bytes>>,
}

impl PublishBatch {
    /// No events yet. Logs keep `length` entries for `ttl_millis`.
    #[must_use]
    pub fn new(length: u32, ttl_millis: u32) -> Self {
        Self { keys: Vec::new(), args: vec![number(&length), number(&ttl_millis)].into() }
    }

    /// Adds an event, sealed when there is a key for it.
    ///
    /// # Errors
    /// [`SealError::Cipher`]; the event is not added then, as nothing that is to be sealed is ever published plain.
    pub fn add(
        &mut self,
        channel: &Channel,
        draft: &OutgoingEvent,
        manner: PublishMode,
        relay_keys: &RelayKeys,
    ) -> Result<(), SealError> {
        let sealed = relay_keys.seal(channel, draft)?;
        let rest = sealed.unwrap_or_else(|| draft.body.expose().clone().into_bytes());
        self.keys.push(channel.log_key());
        self.args.expose_mut().extend([
            Bytes::from_static(draft.kind.as_bytes()),
            draft.header().into(),
            rest.into(),
            Bytes::copy_from_slice(channel.as_str().as_bytes()),
            number(&draft.seq.unwrap_or(0)),
            Bytes::from_static(manner.as_str().as_bytes()),
            Bytes::copy_from_slice(draft.request_id.as_deref().unwrap_or_default().as_bytes()),
        ]);
        Ok(())
    }

    /// What the script takes. Arguments are bytes: what is sealed is no text.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Vec<Bytes>) {
        (self.keys, self.args.into_inner())
    }
}

fn number(number: &impl ToString) -> Bytes {
    number.to_string().into()
}
