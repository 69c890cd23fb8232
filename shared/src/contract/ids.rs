//! Identifiers. Those of the EHR are opaque strings that need no escaping anywhere; ours are UUIDs.
//!
//! A value of these types is always well-formed: there is no other way to make one than to parse it. Clones share their text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Longest identifier, in characters (all of them ASCII). FHIR's `id` allows 64.
pub const MAX_ID_LENGTH: usize = 64;

/// The alphabet and length of an identifier, for documentation and schemas.
pub const ID_PATTERN: &str = "^[A-Za-z0-9._~-]{1,64}$";

/// Why a string is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 characters from `A-Z a-z 0-9 . _ ~ -`")]
pub struct InvalidId;

/// Whether `text` matches [`ID_PATTERN`]. Written by hand: it stands in the way of every request.
fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=MAX_ID_LENGTH).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

macro_rules! ehr_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as the EHR wrote it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if is_id(text) { Ok(Self(text.into())) } else { Err(InvalidId) }
            }
        }

        /// So that a map by identifier can be asked with a bare text. Hash and equality are those of the text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                if is_id(&text) { Ok(Self(text.into())) } else { Err(InvalidId) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .try_into()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

ehr_id! {
    /// A hospital or clinic: the tenant that everything is scoped to.
    LocationId
}
ehr_id! {
    /// The identifier of a participant, unique among its kind (users, or contacts) within a location.
    ParticipantId
}

/// A message: UUIDv7, so that ids sort roughly by time; order within a conversation is `seq`'s.
pub type MessageId = Uuid;

/// Reads a UUID as both interfaces take it: the hyphenated form only, which is what schemas call `uuid` (RFC 9562, section 4);
/// letters of either case.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

/// A conversation: UUIDv5 of location and pair, see [`crate::contract::participant::Conversation::id`].
pub type ConversationId = Uuid;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn examples_and_uuids_are_identifiers() {
        for id in ["loc1", "doc123", "a", "A.b_c~d-e", "0199b1d2-7c1e-7b39-a000-000000000000"] {
            assert_eq!(id.parse::<LocationId>().map(|id| id.to_string()), Ok(id.to_owned()));
        }
    }

    #[test]
    fn characters_that_need_escapes_are_rejected() {
        for id in ["", " ", "a b", "a/b", "a:b", "a{b}", "ä", "a\0", "a\n", &"x".repeat(65)] {
            assert_eq!(id.parse::<ParticipantId>(), Err(InvalidId), "{id:?}");
        }
    }

    #[test]
    fn uuid_is_accepted_in_hyphenated_form_only() {
        let uuid = Uuid::from_u128(0x0199_b1d2_7c1e_7b39_a000_0000_0000_000a);
        for good in ["0199b1d2-7c1e-7b39-a000-00000000000a", "0199B1D2-7C1E-7B39-A000-00000000000A"] {
            assert_eq!(parse_uuid(good), Some(uuid));
        }
        for bad in [
            "0199b1d27c1e7b39a00000000000000a",
            "{0199b1d2-7c1e-7b39-a000-00000000000a}",
            "urn:uuid:0199b1d2-7c1e-7b39-a000-00000000000a",
            "0199b1d27c1e-7b39-a000-00000000000a-",
            "",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }

    #[test]
    fn deserialization_validates_identifiers() {
        assert!(serde_json::from_str::<LocationId>("\"loc1\"").is_ok());
        assert!(serde_json::from_str::<LocationId>("\"loc 1\"").is_err());
    }

    proptest! {
        #[test]
        fn identifiers_match_the_pattern(text in "\\PC{0,70}") {
            let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c));
            let expected = allowed && (1..=64).contains(&text.len());
            prop_assert_eq!(text.parse::<ParticipantId>().is_ok(), expected);
        }

        #[test]
        fn identifiers_survive_a_round_trip(text in "[A-Za-z0-9._~-]{1,64}") {
            prop_assert_eq!(text.parse::<ParticipantId>().map(|id| id.to_string()), Ok(text));
        }
    }
}
