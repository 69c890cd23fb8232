//! Rows of inboxes on their way into Redis: keys and arguments of the script that publishes them.
//!
//! On an inbox's channel a row is `+ CONVERSATION`, a line's end, and the `conversation` frame, of which with relay keys all
//! behind the type is sealed as a message is. A row is state: the newest one is all that matters, so there is no log.

use bytes::Bytes;

use crate::contract::event::relay_keys::RelayKeys;
use crate::contract::ids::ConversationId;
use crate::contract::redis::keys::Channel;
use crate::kit::crypto::redacted::Redacted;
use crate::kit::crypto::seal::SealError;

/// For how long it is known how new a published row was: longer than another one can be under way.
const VERSION_TTL_MILLIS: u32 = 60_000;
const FRAME_TYPE: &str = "conversation";

/// Keys and arguments of [`crate::kit::redis::Topology::publish_rows_script`] for some rows.
///
/// Keys: [`Channel::row_version_key`] of each row. Arguments: how long to keep them, in milliseconds; then three for each row: channel,
/// how new it is, the payload.
#[derive(Debug, Clone)]
pub struct InboxPublishBatch {
    keys: Vec<String>,
    args: Redacted<Vec<Bytes>>,
}

impl Default for InboxPublishBatch {
    fn default() -> Self {
        Self { keys: Vec::new(), args: vec![Bytes::from(VERSION_TTL_MILLIS.to_string())].into() }
    }
}

impl InboxPublishBatch {
    /// Adds the row of a conversation, which is JSON already. Of one conversation's rows the one with the greatest `version`
    /// is the newest.
    ///
    /// # Errors
    /// [`SealError::Cipher`]; the row is not added then, as nothing that is to be sealed is ever published plain.
    pub fn add(
        &mut self,
        channel: &Channel,
        conversation: ConversationId,
        version: i64,
        json: &str,
        relay_keys: &RelayKeys,
    ) -> Result<(), SealError> {
        let rest = ["\"conversation\":", json, "}"].concat();
        let sealed = relay_keys.seal_body(channel, FRAME_TYPE, &conversation.to_string(), &rest)?;
        let rest = sealed.unwrap_or_else(|| rest.into_bytes());
        let beginning = format!("+ {conversation}\n{{\"type\":\"{FRAME_TYPE}\",");
        self.keys.push(channel.row_version_key(conversation));
        self.args.expose_mut().extend([
            Bytes::copy_from_slice(channel.as_str().as_bytes()),
            version.to_string().into(),
            [beginning.as_bytes(), &rest].concat().into(),
        ]);
        Ok(())
    }

    /// What the script takes.
    #[must_use]
    pub fn into_parts(self) -> (Vec<String>, Vec<Bytes>) {
        (self.keys, self.args.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::event::Header;
    use crate::contract::event::relay_keys::OpenError;
    use uuid::Uuid;

    fn payload(channel: &Channel, keys: &RelayKeys) -> Bytes {
        let mut rows = InboxPublishBatch::default();
        rows.add(channel, Uuid::from_u128(7), 3, r#"{"unread_count":1,"content":"hunter2"}"#, keys).unwrap();
        assert!(!format!("{rows:?}").contains("hunter2"));
        let (keys, args) = rows.into_parts();
        assert_eq!((keys.len(), args.len()), (1, 4));
        assert_eq!(args[2], "3");
        args[3].clone()
    }

    fn inbox(of: &str) -> Channel {
        Channel::inbox(&"loc1".parse().unwrap(), &of.parse().unwrap())
    }

    #[test]
    fn row_survives_a_round_trip() {
        let sealing = RelayKeys::new(&"k1:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=".parse().unwrap());
        for keys in [&RelayKeys::default(), &sealing] {
            let payload = payload(&inbox("user:d"), keys);
            let event = keys.open_live(inbox("user:d").as_str(), &payload).unwrap();
            assert_eq!(event.header, Header::InboxRow { conversation: Uuid::from_u128(7) });
            let frame: serde_json::Value = serde_json::from_str(&event.frame).unwrap();
            let row = serde_json::json!({"unread_count": 1, "content": "hunter2"});
            assert_eq!(frame, serde_json::json!({"type": "conversation", "conversation": row}));
        }
    }

    #[test]
    fn sealed_row_opens_only_in_its_own_place() {
        let keys = RelayKeys::new(&"k1:a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=".parse().unwrap());
        let payload = payload(&inbox("user:d"), &keys);
        assert!(!String::from_utf8_lossy(&payload).contains("hunter2"));
        let refused = Err(OpenError::AuthenticationFailed("k1".parse().unwrap()));
        assert_eq!(keys.open_live(inbox("contact:d").as_str(), &payload).map(drop), refused);
        let header = format!("+ {}", Uuid::from_u128(8));
        let moved = [header.as_bytes(), &payload[header.len()..]].concat();
        assert_eq!(keys.open_live(inbox("user:d").as_str(), &moved).map(drop), refused);
    }
}
