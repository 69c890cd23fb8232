//! Events on their way into Redis: keys and arguments of the publishing script.

use crate::channel::Channel;
use crate::event::Draft;

/// How an event is published beside others of its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Behind the message before it: where the log's newest message is an earlier one, it comes too early and is left out.
    Behind,
    /// Whatever came before.
    Anyway,
    /// Whatever came before, and only if the log does not hold it: it may have been published already.
    Again,
}

impl Manner {
    fn as_str(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Anyway => "anyway",
            Self::Again => "again",
        }
    }
}

/// Keys and arguments of [`crate::channel::Topology::publish_script`] for some events.
///
/// Keys: the log of each event. Arguments: most entries a log keeps, its life in milliseconds; then seven for each event:
/// type, header, rest of the frame, channel, its `seq` (0 for what has none), manner, the request that it comes from (or
/// nothing).
#[derive(Debug, Clone)]
pub struct Publication {
    keys: Vec<String>,
    args: Vec<String>,
}

impl Publication {
    /// No events yet. Logs keep `length` entries for `ttl_millis`.
    #[must_use]
    pub fn new(length: u32, ttl_millis: u32) -> Self {
        Self { keys: Vec::new(), args: vec![length.to_string(), ttl_millis.to_string()] }
    }

    /// Adds an event.
    pub fn add(&mut self, channel: &Channel, draft: &Draft, manner: Manner) {
        self.keys.push(channel.log());
        self.args.extend([
            draft.kind.to_owned(),
            draft.header(),
            draft.rest.clone(),
            channel.as_str().to_owned(),
            draft.seq.unwrap_or(0).to_string(),
            manner.as_str().to_owned(),
            draft.request_id.as_deref().unwrap_or_default().to_owned(),
        ]);
    }

    /// What the script takes.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Vec<String>) {
        (self.keys, self.args)
    }
}
