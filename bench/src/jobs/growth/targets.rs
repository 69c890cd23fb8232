//! The conversations that are measured, as the full database has them, and requests to them.

use anyhow::{Context, Result, ensure};
use shared::contract::participant::ParticipantKind;

use crate::backends::ask_database;
use crate::load::publisher::Template;
use crate::load::requests::get;
use crate::load::sends::send_template;
use crate::participants::Side;

/// Behind the stamp: as long as the seeded messages are on average, so that pages of both databases are.
const WORDS: &str = " How do you feel today? Your results are in, and they look good. Please come to the ward at ten tomorrow, and bring the list.";

/// A conversation of a user with a contact or with another user.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    location: String,
    user: String,
    other: (ParticipantKind, String),
    pub(crate) last_seq: u64,
}

impl Target {
    /// The conversations of a database, by what follows `from conversations`.
    pub(crate) fn read(url: &str, rest: &str) -> Result<Vec<Self>> {
        let columns = "location_id, user_id, contact_id, peer_user_id, last_seq";
        let rows = ask_database(url, &format!("select {columns} from conversations {rest}"))?;
        rows.lines().map(Self::parse).collect()
    }

    fn parse(line: &str) -> Result<Self> {
        let columns: Vec<&str> = line.split('|').collect();
        let [location, user, contact, peer, last_seq] = columns[..] else {
            anyhow::bail!("not a conversation: {line}")
        };
        let other = match contact {
            "" => (ParticipantKind::User, peer.to_owned()),
            contact => (ParticipantKind::Contact, contact.to_owned()),
        };
        Ok(Self { location: location.to_owned(), user: user.to_owned(), other, last_seq: last_seq.parse()? })
    }

    /// Who is asked for: the first participant, always a user.
    pub(crate) fn user(&self) -> Side<'_> {
        Side { location: &self.location, kind: ParticipantKind::User, name: &self.user }
    }

    fn other(&self) -> Side<'_> {
        Side { location: &self.location, kind: self.other.0, name: &self.other.1 }
    }

    /// A send of the user.
    pub(crate) fn send(&self) -> Result<Template> {
        send_template(&self.user(), &self.other(), WORDS)
    }

    /// 50 messages of the history: those before `seq`, or the newest.
    pub(crate) fn history(&self, before: Option<u64>) -> Result<Vec<u8>> {
        let Self { location, user, other: (kind, name), .. } = self;
        let other = if *kind == ParticipantKind::Contact { "contact_id" } else { "peer_user_id" };
        let before = before.map(|seq| format!("&before={seq}")).unwrap_or_default();
        let target = format!("/chat/history?location_id={location}&user_id={user}&{other}={name}&limit=50{before}");
        get(&target, &self.user())
    }
}

/// 50 rows of a user's inbox, behind `cursor`.
pub(crate) fn inbox(user: &Side<'_>, cursor: Option<&str>) -> Result<Vec<u8>> {
    let Side { location, name, .. } = user;
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    get(&format!("/chat/conversations?location_id={location}&user_id={name}&limit=50{cursor}"), user)
}

/// The users with most of these conversations, the first with the most.
pub(crate) fn busiest_users(targets: &[Target], count: usize) -> Vec<Side<'_>> {
    let mut conversations = std::collections::BTreeMap::<Side<'_>, usize>::new();
    for target in targets {
        *conversations.entry(target.user()).or_default() += 1;
    }
    let mut users: Vec<_> = conversations.into_iter().map(|(user, count)| (count, user)).collect();
    users.sort_unstable_by(|a, b| b.cmp(a));
    users.into_iter().take(count).map(|(_, user)| user).collect()
}

/// What the field `name` of a JSON text says first; none when it is null.
pub(crate) fn text_field<'a>(json: &'a str, name: &str) -> Result<Option<&'a str>> {
    let field = format!("\"{name}\":");
    let rest = json.rsplit_once(&field).with_context(|| format!("no {name} in an answer"))?.1.trim_start();
    match rest.strip_prefix('"') {
        Some(rest) => Ok(rest.split('"').next()),
        None => {
            ensure!(rest.starts_with("null"), "{name} is no text");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_CONTACT: &str = "clinic-01|doc-010001|pat-0000001||120";
    const WITH_PEER: &str = "clinic-01|doc-010001||doc-010002|3";

    #[test]
    fn conversation_is_read_with_either_peer() {
        let [contact, peer] = [WITH_CONTACT, WITH_PEER].map(|line| Target::parse(line).unwrap());
        assert_eq!((contact.other().kind, contact.last_seq), (ParticipantKind::Contact, 120));
        assert_eq!((peer.other().kind, peer.other().name), (ParticipantKind::User, "doc-010002"));
        assert!(Target::parse("a|b").is_err());
    }

    #[test]
    fn messages_are_as_long_as_seeded_ones() {
        assert_eq!(crate::stamp::LENGTH + WORDS.len(), 150);
    }

    #[test]
    fn busiest_user_is_first() {
        let lines = [WITH_CONTACT, WITH_PEER, &WITH_PEER.replace("doc-010001", "doc-010000")];
        let targets: Vec<_> = lines.iter().map(|line| Target::parse(line).unwrap()).collect();
        let names: Vec<_> = busiest_users(&targets, 5).iter().map(|user| user.name.to_owned()).collect();
        assert_eq!(names, ["doc-010001", "doc-010000"]);
    }

    #[test]
    fn last_field_of_that_name_counts() {
        let page = r#"{"items":[{"next_cursor":"x"}],"next_cursor":"abc"}"#;
        assert_eq!(text_field(page, "next_cursor").unwrap(), Some("abc"));
        assert_eq!(text_field(r#"{"next_cursor":null}"#, "next_cursor").unwrap(), None);
        assert!(text_field("{}", "next_cursor").is_err());
    }
}
