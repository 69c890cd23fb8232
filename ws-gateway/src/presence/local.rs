//! Who is here: the people that this gateway holds sockets of in one location, and what of that Redis has yet to hear.
//!
//! Whoever leaves lingers for a while: a page that is loaded again, or a phone that changes its network, is back before
//! anybody is told.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use shared::participant::Participant;
use tokio::time::Instant;

/// The people of one location.
#[derive(Debug, Default)]
pub(super) struct People {
    all: HashMap<Participant, Person>,
    /// Those who may have to be written down as come, each once.
    queued: VecDeque<Participant>,
    /// Those who left, in the order in which they did.
    leaving: VecDeque<(Instant, Participant)>,
    /// Whenever all of it is written anew it is under another name, so that whatever Redis has too much goes with the lease of the old
    /// one. No name is ever used again.
    incarnation: u32,
}

#[derive(Debug, Default)]
struct Person {
    sockets: u32,
    is_written: Written,
    is_queued: bool,
    /// When its last socket went, if it has none.
    left: Option<Instant>,
}

/// Whether Redis has somebody here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Written {
    #[default]
    No,
    /// It was told, and has not answered.
    Perhaps,
    Yes,
}

/// What Redis is to be told of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) who: Participant,
    /// Since when it has been gone; `None` if it has come.
    pub(super) left: Option<Instant>,
}

impl People {
    /// Nobody is here yet.
    pub(super) fn new(incarnation: u32) -> Self {
        Self { incarnation, ..Self::default() }
    }

    /// A socket of somebody has opened.
    pub(super) fn come(&mut self, who: &Participant) {
        let person = match self.all.get_mut(who) {
            Some(person) => person,
            None => self.all.entry(who.clone()).or_default(),
        };
        person.sockets += 1;
        person.left = None;
        if person.is_written != Written::Yes && !std::mem::replace(&mut person.is_queued, true) {
            self.queued.push_back(who.clone());
        }
    }

    /// A socket of somebody has closed.
    pub(super) fn go(&mut self, who: &Participant, now: Instant) {
        let Some(person) = self.all.get_mut(who) else { return };
        person.sockets = person.sockets.saturating_sub(1);
        if person.sockets == 0 {
            person.left = Some(now);
            self.leaving.push_back((now, who.clone()));
        }
    }

    /// Whether nobody is here, or was a moment ago.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many people are here.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many of them Redis should have.
    pub(super) fn written(&self) -> usize {
        self.all.values().filter(|person| person.is_written == Written::Yes).count()
    }

    /// Whether what Redis has can be compared: nobody is about to be written down.
    pub(super) fn is_settled(&self) -> bool {
        self.queued.is_empty()
    }

    /// Under which name they are written down.
    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// When [`People::take`] has something: at once, or when somebody has lingered for long enough.
    pub(super) fn due(&self, now: Instant, linger: Duration) -> Option<Instant> {
        if !self.queued.is_empty() {
            return Some(now);
        }
        self.leaving.front().map(|(left, _)| *left + linger)
    }

    /// What Redis is to be told now; at most `limit`. All of it must come back through [`People::done`] or [`People::failed`],
    /// before anything else is taken.
    pub(super) fn take(&mut self, now: Instant, linger: Duration, limit: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < limit
            && let Some(who) = self.queued.pop_front()
        {
            let Some(person) = self.all.get_mut(&who) else { continue };
            person.is_queued = false;
            if person.sockets > 0 && person.is_written != Written::Yes {
                changes.push(Change { who, left: None });
            }
        }
        while changes.len() < limit
            && self.leaving.front().is_some_and(|(left, _)| *left + linger <= now)
            && let Some((left, who)) = self.leaving.pop_front()
        {
            match self.all.get(&who) {
                Some(person) if person.left == Some(left) && person.is_written != Written::No => {
                    changes.push(Change { who, left: Some(left) });
                }
                Some(person) if person.left == Some(left) => drop(self.all.remove(&who)),
                // It has come back.
                _ => {}
            }
        }
        changes
    }

    /// Redis has heard it.
    pub(super) fn done(&mut self, changes: Vec<Change>) {
        for Change { who, left } in changes {
            let Some(person) = self.all.get_mut(&who) else { continue };
            if left.is_none() {
                person.is_written = Written::Yes;
                continue;
            }
            person.is_written = Written::No;
            if person.sockets > 0 {
                // It has come back meanwhile.
                self.queue(&who);
            } else if person.left == left {
                self.all.remove(&who);
            }
        }
    }

    /// Nobody knows whether Redis has heard it.
    pub(super) fn failed(&mut self, changes: Vec<Change>) {
        for Change { who, left } in changes.into_iter().rev() {
            let Some(person) = self.all.get_mut(&who) else { continue };
            person.is_written = Written::Perhaps;
            match left {
                Some(left) if person.left == Some(left) => self.leaving.push_front((left, who)),
                _ => self.queue(&who),
            }
        }
    }

    /// Redis does not have what it should, or not for much longer: all of it is to be written once more, as this incarnation. Those
    /// who linger go with the old name.
    pub(super) fn write_anew(&mut self, incarnation: u32) {
        self.incarnation = incarnation;
        self.leaving.clear();
        self.all.retain(|_, person| person.sockets > 0);
        self.queued.clear();
        for (who, person) in &mut self.all {
            (person.is_written, person.is_queued) = (Written::No, true);
            self.queued.push_back(who.clone());
        }
    }

    fn queue(&mut self, who: &Participant) {
        if let Some(person) = self.all.get_mut(who)
            && !std::mem::replace(&mut person.is_queued, true)
        {
            self.queued.push_back(who.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(3);

    fn doctor() -> Participant {
        "user:doc123".parse().unwrap()
    }

    fn taken(people: &mut People, now: Instant) -> Vec<(String, bool)> {
        let changes = people.take(now, LINGER, 10);
        let shown = changes.iter().map(|change| (change.who.to_string(), change.left.is_none())).collect();
        people.done(changes);
        shown
    }

    fn came() -> Vec<(String, bool)> {
        vec![("user:doc123".to_owned(), true)]
    }

    fn went() -> Vec<(String, bool)> {
        vec![("user:doc123".to_owned(), false)]
    }

    #[test]
    fn somebody_comes_with_the_first_socket_and_goes_with_the_last() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        people.come(&doctor());
        assert_eq!(people.due(now, LINGER), Some(now));
        assert_eq!(taken(&mut people, now), came());
        assert_eq!((people.len(), people.written(), people.due(now, LINGER)), (1, 1, None));
        people.go(&doctor(), now);
        assert_eq!(people.due(now, LINGER), None);
        people.go(&doctor(), now);
        assert_eq!(people.due(now, LINGER), Some(now + LINGER));
        assert_eq!(taken(&mut people, now + LINGER / 2), []);
        assert_eq!(taken(&mut people, now + LINGER), went());
        assert!(people.is_empty());
    }

    #[test]
    fn who_is_back_before_long_was_never_away() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        taken(&mut people, now);
        people.go(&doctor(), now);
        people.come(&doctor());
        assert_eq!(taken(&mut people, now + LINGER), []);
        // It counts from the last time.
        people.go(&doctor(), now + LINGER);
        people.come(&doctor());
        people.go(&doctor(), now + 2 * LINGER);
        assert_eq!(taken(&mut people, now + 2 * LINGER), []);
        assert_eq!(taken(&mut people, now + 3 * LINGER), went());
    }

    #[test]
    fn who_is_gone_before_redis_heard_of_it_is_not_told_of() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        people.go(&doctor(), now);
        assert_eq!(taken(&mut people, now), []);
        assert_eq!(taken(&mut people, now + LINGER), []);
        assert!(people.is_empty() && people.due(now, LINGER).is_none());
    }

    #[test]
    fn who_comes_while_its_going_is_written_down_comes_anew() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        taken(&mut people, now);
        people.go(&doctor(), now);
        let under_way = people.take(now + LINGER, LINGER, 10);
        people.come(&doctor());
        people.done(under_way);
        assert_eq!(taken(&mut people, now + LINGER), came());
    }

    #[test]
    fn what_failed_is_tried_again() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        let under_way = people.take(now, LINGER, 10);
        people.failed(under_way);
        assert_eq!(people.written(), 0);
        assert_eq!(taken(&mut people, now), came());
        people.go(&doctor(), now);
        let under_way = people.take(now + LINGER, LINGER, 10);
        people.failed(under_way);
        assert_eq!(taken(&mut people, now + LINGER), went());
    }

    #[test]
    fn what_redis_has_lost_is_written_anew() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        taken(&mut people, now);
        people.write_anew(1);
        people.write_anew(2);
        assert_eq!((people.written(), people.incarnation(), people.is_settled()), (0, 2, false));
        assert_eq!(taken(&mut people, now), came());
        assert_eq!(taken(&mut people, now), []);
        assert!(people.is_settled());
    }

    #[test]
    fn who_lingers_while_all_is_written_anew_goes_with_the_old_name() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        taken(&mut people, now);
        people.go(&doctor(), now);
        people.write_anew(1);
        assert!(people.is_empty() && people.due(now, LINGER).is_none());
    }

    #[test]
    fn nobody_is_forgotten_of_whom_redis_may_have_heard() {
        let (mut people, now) = (People::default(), Instant::now());
        people.come(&doctor());
        let under_way = people.take(now, LINGER, 10);
        people.go(&doctor(), now);
        people.failed(under_way);
        assert_eq!(taken(&mut people, now), []);
        assert_eq!(taken(&mut people, now + LINGER), went(), "it may be written down");
        assert!(people.is_empty());
        // The same the other way round.
        people.come(&doctor());
        taken(&mut people, now);
        people.go(&doctor(), now);
        let under_way = people.take(now + LINGER, LINGER, 10);
        people.come(&doctor());
        people.failed(under_way);
        assert_eq!(taken(&mut people, now + LINGER), came(), "it may be crossed out");
        people.go(&doctor(), now);
        let under_way = people.take(now + LINGER, LINGER, 10);
        people.failed(under_way);
        people.come(&doctor());
        assert_eq!(taken(&mut people, now + LINGER), came(), "whoever comes back later may be, too");
    }

    #[test]
    fn no_more_is_taken_at_once_than_was_asked_for() {
        let (mut people, now) = (People::default(), Instant::now());
        for n in 0..25 {
            people.come(&format!("contact:{n}").parse().unwrap());
        }
        let sizes: Vec<_> = (0..4).map(|_| taken(&mut people, now).len()).collect();
        assert_eq!(sizes, [10, 10, 5, 0]);
    }
}
