//! Who wants to know: the people of one location in whose conversations this gateway holds a socket of the other side, and
//! what is known of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use shared::ids::ConversationId;
use shared::participant::Participant;
use shared::presence::Presence;
use tokio::time::Instant;

/// The watched people of one location.
#[derive(Debug, Default)]
pub(super) struct Watched {
    all: HashMap<Participant, Person>,
    /// Those who are to be looked at, each once.
    queued: Vec<Participant>,
    /// Conversations of which nobody knows yet whether they may be told, and of whom.
    asked: HashMap<ConversationId, Asked>,
}

#[derive(Debug)]
struct Asked {
    of: Vec<Participant>,
    /// How often it is asked again: there is no answer for a conversation in which nobody has written.
    again: u8,
}

/// How often it is asked again what was not answered: the answer may have been lost.
const ASKED_AGAIN: u8 = 3;

#[derive(Debug)]
struct Person {
    /// With how many sockets of the other side; in the order of their ids, since somebody may have thousands.
    conversations: Vec<(ConversationId, u32)>,
    since: Instant,
    known: Option<Presence>,
    /// Counts what was told of it: what was read before is older than what was told since.
    told: u32,
    is_queued: bool,
}

/// Somebody who is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) who: Participant,
    told: u32,
}

/// What is to be told, and in which conversations.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) who: Participant,
    pub(super) presence: Presence,
    pub(super) conversations: Vec<ConversationId>,
}

impl Watched {
    /// The other side of this conversation has opened a socket.
    pub(super) fn watch(&mut self, who: &Participant, conversation: ConversationId, now: Instant) {
        let person = match self.all.entry(who.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                self.queued.push(who.clone());
                // Most are watched in one conversation: a place more would be kept for every socket.
                let conversations = Vec::with_capacity(1);
                entry.insert(Person { conversations, since: now, known: None, told: 0, is_queued: true })
            }
        };
        match person.conversations.binary_search_by_key(&conversation, |(id, _)| *id) {
            Ok(place) => person.conversations[place].1 += 1,
            Err(place) => person.conversations.insert(place, (conversation, 1)),
        }
    }

    /// It has closed one.
    pub(super) fn unwatch(&mut self, who: &Participant, conversation: ConversationId) {
        let Some(person) = self.all.get_mut(who) else { return };
        let Ok(place) = person.conversations.binary_search_by_key(&conversation, |(id, _)| *id) else { return };
        let (_, sockets) = &mut person.conversations[place];
        *sockets -= 1;
        if *sockets == 0 {
            person.conversations.remove(place);
            if let Entry::Occupied(mut asked) = self.asked.entry(conversation) {
                asked.get_mut().of.retain(|of| of != who);
                if asked.get().of.is_empty() {
                    asked.remove();
                }
            }
        }
        if person.conversations.is_empty() {
            self.all.remove(who);
        }
    }

    /// Whether nobody wants to know of anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Somebody has come or gone. Returns what nobody knows yet.
    pub(super) fn heard(&mut self, who: &Participant, presence: Presence) -> Option<News> {
        let person = self.all.get_mut(who)?;
        person.told = person.told.wrapping_add(1);
        let before = person.known.replace(presence);
        let is_news = before.is_none_or(|before| before.is_online() != presence.is_online());
        is_news.then(|| person.news(who, presence))
    }

    /// Has everybody looked at: something may have been told that did not arrive.
    pub(super) fn look_at_all(&mut self) {
        for (who, person) in &mut self.all {
            if !std::mem::replace(&mut person.is_queued, true) {
                self.queued.push(who.clone());
            }
        }
    }

    /// Whether somebody is to be looked at.
    pub(super) fn is_due(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Who is to be looked at now; at most `limit`.
    pub(super) fn take(&mut self, limit: usize) -> Vec<Look> {
        let some = self.queued.split_off(self.queued.len().saturating_sub(limit));
        let look = |who: Participant| {
            let person = self.all.get_mut(&who)?;
            person.is_queued = false;
            Some(Look { told: person.told, who })
        };
        some.into_iter().filter_map(look).collect()
    }

    /// Somebody was looked at, and has been so for this long. Returns what nobody knows yet.
    ///
    /// What was so already when its watching began is told to nobody: clients ask for that.
    pub(super) fn saw(&mut self, look: &Look, presence: Presence, lasts: Option<Duration>) -> Option<News> {
        let person = self.all.get_mut(&look.who).filter(|person| person.told == look.told)?;
        let is_news = match person.known {
            Some(known) => known.is_online() != presence.is_online(),
            None => lasts.is_some_and(|lasts| lasts < person.since.elapsed()),
        };
        person.known = Some(presence);
        is_news.then(|| person.news(&look.who, presence))
    }

    /// These could not be looked at.
    pub(super) fn not_seen(&mut self, looks: Vec<Look>) {
        for Look { who, .. } in looks {
            if let Some(person) = self.all.get_mut(&who)
                && !std::mem::replace(&mut person.is_queued, true)
            {
                self.queued.push(who);
            }
        }
    }

    /// Of this conversation it must be asked whether its two participants may know of each other.
    pub(super) fn ask(&mut self, conversation: ConversationId, of: &Participant) {
        let asked = self.asked.entry(conversation).or_insert(Asked { of: Vec::new(), again: 0 });
        asked.again = ASKED_AGAIN;
        if !asked.of.contains(of) {
            asked.of.push(of.clone());
        }
    }

    /// Of which conversations it must be asked again. What was not answered so often is given up until somebody comes or goes.
    pub(super) fn ask_again(&mut self) -> Vec<ConversationId> {
        self.asked.retain(|_, asked| asked.again > 0);
        self.asked.values_mut().for_each(|asked| asked.again -= 1);
        self.asked.keys().copied().collect()
    }

    /// They may. Returns what was not told because nobody knew.
    pub(super) fn may_know(&mut self, conversation: ConversationId) -> Vec<News> {
        let of = self.asked.remove(&conversation).map(|asked| asked.of).unwrap_or_default();
        let news = |who: Participant| {
            let presence = self.all.get(&who)?.known?;
            Some(News { who, presence, conversations: vec![conversation] })
        };
        of.into_iter().filter_map(news).collect()
    }
}

impl Person {
    fn news(&self, who: &Participant, presence: Presence) -> News {
        let conversations = self.conversations.iter().map(|(id, _)| *id).collect();
        News { who: who.clone(), presence, conversations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const GONE: Presence = Presence::Offline(None);
    const LONG: Option<Duration> = Some(Duration::from_secs(3600));

    fn doctor() -> Participant {
        "user:doc123".parse().unwrap()
    }

    fn id(n: u128) -> ConversationId {
        Uuid::from_u128(n)
    }

    fn watched(ids: &[u128]) -> Watched {
        let mut watched = Watched::default();
        for n in ids {
            watched.watch(&doctor(), id(*n), Instant::now());
        }
        watched
    }

    fn look(watched: &mut Watched) -> Look {
        watched.look_at_all();
        let mut looks = watched.take(10);
        assert_eq!(looks.len(), 1);
        looks.remove(0)
    }

    fn told(news: Option<News>) -> Option<(bool, usize)> {
        news.map(|news| (news.presence.is_online(), news.conversations.len()))
    }

    #[test]
    fn what_changes_is_told_once_in_every_conversation() {
        let mut watched = watched(&[1, 2, 2]);
        let seen = look(&mut watched);
        assert_eq!(told(watched.saw(&seen, GONE, LONG)), None, "so it was before anybody watched");
        assert_eq!(told(watched.heard(&doctor(), Presence::Online)), Some((true, 2)));
        assert_eq!(told(watched.heard(&doctor(), Presence::Online)), None);
        assert_eq!(told(watched.heard(&doctor(), GONE)), Some((false, 2)));
        assert_eq!(told(watched.heard(&"contact:doc123".parse().unwrap(), GONE)), None);
    }

    #[test]
    fn what_pub_sub_lost_is_seen() {
        let mut watched = watched(&[1]);
        let seen = look(&mut watched);
        watched.saw(&seen, Presence::Online, LONG);
        let seen = look(&mut watched);
        assert_eq!(told(watched.saw(&seen, GONE, LONG)), Some((false, 1)));
        let seen = look(&mut watched);
        assert_eq!(told(watched.saw(&seen, GONE, LONG)), None);
    }

    #[test]
    fn what_was_read_before_something_was_told_is_older() {
        let mut watched = watched(&[1]);
        let before = look(&mut watched);
        watched.heard(&doctor(), Presence::Online);
        assert_eq!(told(watched.saw(&before, GONE, Some(Duration::ZERO))), None);
        let after = look(&mut watched);
        assert_eq!(told(watched.saw(&after, Presence::Online, LONG)), None, "that is what was told");
    }

    #[test]
    fn a_change_since_the_watching_began_is_told_and_an_older_one_is_not() {
        let mut fresh = watched(&[1]);
        let seen = look(&mut fresh);
        assert_eq!(told(fresh.saw(&seen, Presence::Online, Some(Duration::ZERO))), Some((true, 1)));
        let mut unknown = watched(&[1]);
        let seen = look(&mut unknown);
        assert_eq!(told(unknown.saw(&seen, GONE, None)), None);
    }

    #[test]
    fn whom_nobody_watches_any_more_is_forgotten() {
        let mut watched = watched(&[1, 1, 2]);
        watched.ask(id(1), &doctor());
        for n in [1, 1, 2, 3] {
            assert!(!watched.is_empty());
            watched.unwatch(&doctor(), id(n));
            if n == 2 {
                break;
            }
        }
        assert!(watched.is_empty() && watched.asked.is_empty());
        assert_eq!(told(watched.heard(&doctor(), Presence::Online)), None);
        assert_eq!(watched.take(10), []);
    }

    #[test]
    fn what_nobody_knew_may_be_told_is_told_as_it_is_then() {
        let mut watched = watched(&[1, 2]);
        watched.heard(&doctor(), Presence::Online);
        watched.ask(id(1), &doctor());
        watched.ask(id(1), &doctor());
        watched.heard(&doctor(), GONE);
        let news = watched.may_know(id(1));
        assert_eq!(news, [News { who: doctor(), presence: GONE, conversations: vec![id(1)] }]);
        assert_eq!(watched.may_know(id(1)), []);
        assert_eq!(watched.may_know(id(2)), []);
    }

    #[test]
    fn what_is_not_answered_is_asked_again_a_few_times() {
        let mut watched = watched(&[1, 2]);
        watched.heard(&doctor(), Presence::Online);
        watched.ask(id(1), &doctor());
        for _ in 0..ASKED_AGAIN {
            assert_eq!(watched.ask_again(), [id(1)]);
        }
        assert!(watched.ask_again().is_empty());
        assert_eq!(watched.may_know(id(1)), [], "it is given up");
        watched.ask(id(2), &doctor());
        assert_eq!(watched.ask_again(), [id(2)]);
        assert_eq!(watched.may_know(id(2)).len(), 1);
        assert!(watched.ask_again().is_empty());
    }

    #[test]
    fn what_is_asked_for_the_one_side_does_not_end_with_the_other() {
        let mut watched = watched(&[1]);
        let patient: Participant = "contact:pat456".parse().unwrap();
        watched.watch(&patient, id(1), Instant::now());
        watched.heard(&patient, Presence::Online);
        watched.ask(id(1), &doctor());
        watched.ask(id(1), &patient);
        watched.unwatch(&doctor(), id(1));
        assert_eq!(watched.may_know(id(1)).len(), 1);
    }

    #[test]
    fn who_could_not_be_looked_at_is_looked_at_again() {
        let mut watched = watched(&[1]);
        assert!(watched.is_due());
        let looks = watched.take(10);
        assert!(!watched.is_due());
        watched.not_seen(looks.clone());
        watched.not_seen(looks);
        assert_eq!(watched.take(10).len(), 1);
    }
}
