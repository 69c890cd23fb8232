//! Who is online, for those who may know: whoever shares a conversation, and services.

use std::collections::HashSet;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use shared::audit::{Action, Entry};
use shared::ids::LocationId;
use shared::participant::{Conversation, Participant};
use shared::presence::Presence;

use super::error::Refused;
use crate::audit::writer::Auditor;
use crate::model::origin::Origin;
use crate::presence_reader::Everybody;
use crate::store::Store;

/// Most people that may be asked for at once.
pub const MOST: usize = 100;

/// Whether somebody is online.
#[derive(Debug)]
pub struct Shown {
    /// Who.
    pub who: Participant,
    /// Whether.
    pub presence: Presence,
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Presence", 3)?;
        fields.serialize_field(if self.who.user_id().is_some() { "user_id" } else { "contact_id" }, &self.who.id)?;
        fields.serialize_field("online", &self.presence.is_online())?;
        fields.serialize_field("last_seen_at", &self.presence.last_seen_at())?;
        fields.end()
    }
}

/// Those who may be known of, among those who were asked for.
#[derive(Debug, Serialize)]
pub struct Participants {
    participants: Vec<Shown>,
}

/// Who of these is online. Those with whom the caller shares no conversation are left out, and look like those whom nobody
/// knows. That somebody looked is on disk before anybody sees it.
///
/// # Errors
/// [`Refused`]
pub async fn presence(
    origin: &Origin,
    (store, auditor, everybody): (&Store, &Auditor, &Everybody),
    location: &LocationId,
    asked: Vec<Participant>,
) -> Result<Participants, Refused> {
    origin.principal.check_location(location)?;
    let people = distinct(asked)?;
    let entry = entry(origin, location, &people);
    let known = match origin.principal.person() {
        Some(viewer) => origin.deadline.limit(known_to(viewer, store, location, people)).await?,
        None => people,
    };
    let presence = origin.deadline.limit(everybody.presence(location, &known)).await?;
    auditor.record(entry, origin.deadline).await?;
    let participants = known.into_iter().zip(presence).map(|(who, presence)| Shown { who, presence }).collect();
    Ok(Participants { participants })
}

/// Each once, in the order in which they were asked for.
fn distinct(mut asked: Vec<Participant>) -> Result<Vec<Participant>, Refused> {
    if asked.len() > MOST {
        return Err(Refused::Field("?user_id", "and `contact_id` may name 100 people at most"));
    }
    let mut seen = HashSet::new();
    asked.retain(|who| seen.insert(who.clone()));
    match asked.is_empty() {
        true => Err(Refused::Field("?user_id", "or `contact_id` must say who is asked for")),
        false => Ok(asked),
    }
}

/// Those with whom `viewer` has written, and `viewer`.
async fn known_to(
    viewer: &Participant,
    store: &Store,
    location: &LocationId,
    people: Vec<Participant>,
) -> Result<Vec<Participant>, Refused> {
    let conversation = |who: &Participant| {
        let conversation = Conversation::new(location.clone(), viewer.clone(), who.clone());
        conversation.ok().map(|conversation| conversation.id())
    };
    let asked: Vec<_> = people.iter().filter_map(conversation).map(|id| (id, location)).collect();
    let written = if asked.is_empty() { HashSet::new() } else { store.written(&asked).await? };
    let is_known = |who: &Participant| who == viewer || conversation(who).is_some_and(|id| written.contains(&id));
    Ok(people.into_iter().filter(is_known).collect())
}

fn entry(origin: &Origin, location: &LocationId, people: &[Participant]) -> Entry {
    let entry = Entry { location: Some(location.clone()), ..origin.entry(Action::PresenceRead, 200) };
    match people {
        [one] => Entry { counterpart: Some(one.clone()), ..entry },
        many => {
            let names: Vec<_> = many.iter().map(ToString::to_string).collect();
            Entry { detail: Some(names.join(" ")), ..entry }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(names: &[&str]) -> Vec<Participant> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn each_is_asked_for_once_and_somebody_must_be() {
        let asked = people(&["user:b", "user:a", "contact:a", "user:b"]);
        assert_eq!(distinct(asked).unwrap(), people(&["user:b", "user:a", "contact:a"]));
        assert!(matches!(distinct(Vec::new()), Err(Refused::Field("?user_id", _))));
        assert!(distinct(people(&vec!["user:a"; MOST])).is_ok());
        assert!(distinct(people(&vec!["user:a"; MOST + 1])).is_err());
    }

    #[test]
    fn people_are_shown_as_the_contract_has_them() {
        let of = |who: &str, presence| Shown { who: who.parse().unwrap(), presence };
        let seen = Presence::read(0, 1_790_000_000_000);
        let participants = vec![
            of("user:doc123", Presence::Online),
            of("contact:pat456", seen),
            of("user:x", Presence::Offline(None)),
        ];
        assert_eq!(
            serde_json::to_value(Participants { participants }).unwrap(),
            serde_json::json!({"participants": [
                {"user_id": "doc123", "online": true, "last_seen_at": null},
                {"contact_id": "pat456", "online": false, "last_seen_at": "2026-09-21T14:13:20.000000Z"},
                {"user_id": "x", "online": false, "last_seen_at": null},
            ]})
        );
    }
}
