//! Events on their way into Redis: keys and arguments of the publishing script.

use crate::channel::Channel;
use crate::event::Draft;

/// Keys and arguments of [`crate::channel::Topology::publish_script`] for some events.
///
/// Keys: the log of each event. Arguments: most entries a log keeps, its life in milliseconds; then five for each event:
/// type, header, rest of the frame, channel, and its `seq` (0 for what has none; negative for what is not to wait for
/// its predecessor).
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

    /// Adds an event. With `anyway` it does not wait for the message before it.
    pub fn add(&mut self, channel: &Channel, draft: &Draft, anyway: bool) {
        let seq = draft.seq.unwrap_or(0) * if anyway { -1 } else { 1 };
        self.keys.push(channel.log());
        self.args.extend([
            draft.kind.to_owned(),
            draft.header(),
            draft.rest.clone(),
            channel.as_str().to_owned(),
            seq.to_string(),
        ]);
    }

    /// What the script takes.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Vec<String>) {
        (self.keys, self.args)
    }
}
