//! Who is online: this gateway's own people → Redis, and everybody's → the sockets of those who share a conversation.
//!
//! Redis hears when somebody comes, and when somebody has been gone for a while; for all the rest a gateway holds a lease in
//! each location, and whoever is at a gateway whose lease has ended is sent away by another one. Each location has one
//! channel, on which changes are told; that costs less than a channel a person, since most people change seldom. What the
//! channel lost is seen by looking at everybody who is watched, again and again.
//!
//! Nothing waits for it, and no message depends on it. While Redis is away everybody stays as they were.

mod conversation_checks;
mod local;
mod store;
mod watchlist;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use metrics::counter;
use parking_lot::Mutex;
use shared::channel::Channel;
use shared::channel::presence::WRITTEN_KEPT_MILLIS;
use shared::event::{Event, Header};
use shared::ids::LocationId;
use shared::participant::{Conversation, Participant};
use shared::presence::{ConversationCheck, Notice, Presence};
use shared::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::hub::outbound_queue::EncodedEvent;
use crate::hub::topic::Topic;
use crate::hub::{Attendance, Hub};
use crate::redis::Nodes;
use conversation_checks::Questions;
use local::{Change, People};
use store::{Ledger, Name};
use watchlist::{Look, News, Watched};

/// People in one script, which holds up Redis for a millisecond or so.
const PEOPLE: usize = 128;
/// Scripts under way at a time, of each task.
pub(crate) const AT_ONCE: usize = 16;
/// Between two rounds of writing: a busy gateway writes few large commands.
const APART: Duration = Duration::from_millis(20);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// A lease is prolonged so many times while it lasts.
const PROLONGED: u32 = 3;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// After which a gateway that is not heard of is dead.
    pub(crate) lease: Duration,
    /// For which somebody without a socket still counts as online.
    pub(crate) linger: Duration,
    /// Between two looks at everybody who is watched.
    pub(crate) look: Duration,
}

/// Everybody's presence. Clones are one.
#[derive(Clone)]
pub(crate) struct Everybody(Arc<Inner>);

struct Inner {
    places: Mutex<Places>,
    hub: Arc<Hub>,
    times: Times,
    questions: Questions,
    /// Somebody has come or gone.
    moved: Notify,
    /// Somebody is to be looked at.
    looking: Notify,
    /// The connection to Redis is a new one.
    anew: Notify,
    /// Under how many names people were written down so far, in all locations.
    incarnations: AtomicU32,
}

type Places = HashMap<LocationId, Place>;

/// What there is in one location.
struct Place {
    people: People,
    watched: Watched,
    /// While anybody is watched.
    listening: Option<Attendance>,
    /// When all of its people were last to be written anew.
    written_at: Instant,
    /// Since when Redis has done all that it was told of this location. Only whoever has seen that for a whole lease knows that
    /// another one has ended because its gateway is dead, and not because Redis was away.
    steady_since: Instant,
    /// Not before is it told of it again.
    retry_at: Instant,
}

impl Place {
    fn new(incarnation: u32) -> Self {
        let now = Instant::now();
        let (people, watched) = (People::new(incarnation), Watched::default());
        Self { people, watched, listening: None, written_at: now, steady_since: now, retry_at: now }
    }
}

impl Everybody {
    /// Tells and hears until `shutdown`.
    pub(crate) fn start(redis: &Nodes, hub: &Arc<Hub>, times: Times, shutdown: &Shutdown) -> Self {
        let everybody = Self(Arc::new(Inner {
            places: Mutex::default(),
            hub: hub.clone(),
            times,
            questions: Questions::start(redis.clone(), shutdown),
            moved: Notify::new(),
            looking: Notify::new(),
            anew: Notify::new(),
            incarnations: AtomicU32::new(0),
        }));
        let ledger = Arc::new(Ledger::new(redis.clone(), times.lease));
        let (telling, said, ended) = (everybody.0.clone(), ledger.clone(), shutdown.clone());
        shutdown.spawn("presence", async move { telling.tell(&said, &ended).await });
        let looking = everybody.0.clone();
        shutdown.spawn_until("presence watch", async move { looking.look(&ledger).await });
        everybody
    }

    /// A socket has opened.
    pub(crate) fn enter(&self, topic: &Topic, bearer: Option<&Participant>) {
        let mut places = self.0.places.lock();
        let place = places.entry(topic.location().clone()).or_insert_with(|| Place::new(self.0.next_incarnation()));
        if let Some(person) = bearer {
            place.people.come(person);
            self.0.moved.notify_one();
        }
        if let Some(conversation) = topic.conversation() {
            let now = Instant::now();
            for other in others(conversation, bearer) {
                place.watched.watch(other, conversation.id(), now);
            }
            place.listening.get_or_insert_with(|| self.0.hub.attend(Channel::presence(topic.location())));
            self.0.looking.notify_one();
        }
    }

    /// A socket has closed.
    pub(crate) fn leave(&self, topic: &Topic, bearer: Option<&Participant>) {
        let mut places = self.0.places.lock();
        let Some(place) = places.get_mut(topic.location()) else { return };
        if let Some(person) = bearer {
            place.people.go(person, Instant::now());
            self.0.moved.notify_one();
        }
        if let Some(conversation) = topic.conversation() {
            for other in others(conversation, bearer) {
                place.watched.unwatch(other, conversation.id());
            }
            if place.watched.is_empty() {
                place.listening = None;
            }
        }
        if place.is_empty() {
            places.remove(topic.location());
        }
    }

    /// Passes on what came on a location's channel.
    pub(crate) fn hear(&self, location: &str, payload: &[u8]) {
        let notice = match Notice::parse(payload) {
            Ok(notice) => notice,
            Err(error) => return tracing::error!(location, %error, "ignored what came on a channel"),
        };
        let mut places = self.0.places.lock();
        let Some((location, _)) = places.get_key_value(location) else { return };
        let location = location.clone();
        let Some(place) = places.get_mut(&location) else { return };
        match notice {
            Notice::Changed(who, presence) => {
                let news = place.watched.heard(&who, presence);
                self.0.spread(&mut places, &location, news);
            }
            Notice::ConversationExists(conversation) => {
                self.0.hub.may_tell(&Channel::new(&location, conversation));
                let news = place.watched.may_know(conversation);
                self.0.spread(&mut places, &location, news);
            }
        }
    }

    /// Asks whether anything was ever written in the conversation of this channel. The answer goes to the hub.
    pub(crate) fn ask_about(&self, channel: &str) {
        if let Some((location, conversation)) = shared::channel::conversation(channel) {
            self.0.questions.report(ConversationCheck { location, conversation });
        }
    }

    /// What these channels tell is heard from now on, and what they told before was not.
    pub(crate) fn hears(&self, channels: &[Channel]) {
        let mut places = self.0.places.lock();
        for channel in channels.iter().filter(|channel| channel.is_presence()) {
            let place = shared::channel::presence::location(channel.as_str()).and_then(|name| places.get_mut(name));
            if let Some(place) = place {
                place.watched.look_at_all();
                self.0.looking.notify_one();
            }
        }
    }

    /// Redis may be another one than before, which knows nobody, or not all that it was told: the one that has the locations
    /// whose channel `is_concerned`. All of a location is where its channel is.
    pub(crate) fn reconnected(&self, is_concerned: impl Fn(&Channel) -> bool) {
        for (location, place) in self.0.places.lock().iter_mut() {
            if !is_concerned(&Channel::presence(location)) {
                continue;
            }
            place.write_anew(self.0.next_incarnation());
            place.steady_since = Instant::now();
        }
        self.0.anew.notify_one();
    }

    /// How many people this gateway holds sockets of.
    pub(crate) fn people(&self) -> usize {
        self.0.places.lock().values().map(|place| place.people.len()).sum()
    }
}

/// Those of a conversation that its viewer is not.
fn others<'a>(
    conversation: &'a Conversation,
    viewer: Option<&'a Participant>,
) -> impl Iterator<Item = &'a Participant> {
    [conversation.first(), conversation.second()].into_iter().filter(move |one| viewer != Some(*one))
}

impl Place {
    fn write_anew(&mut self, incarnation: u32) {
        self.written_at = Instant::now();
        self.people.write_anew(incarnation);
    }

    /// Redis has not done something, or has not said so.
    fn failed(&mut self) {
        let now = Instant::now();
        (self.steady_since, self.retry_at) = (now, now + PAUSE);
    }

    fn is_empty(&self) -> bool {
        self.people.is_empty() && self.watched.is_empty()
    }
}

impl Inner {
    /// A name under which nobody was ever written down. A location that was empty for a while must not get the one of before: what Redis
    /// still has under that would be online again.
    fn next_incarnation(&self) -> u32 {
        self.incarnations.fetch_add(1, Ordering::Relaxed)
    }

    /// Tells sockets, and asks about conversations of which nobody knows whether they exist.
    fn spread(&self, places: &mut Places, location: &LocationId, news: impl IntoIterator<Item = News>) {
        for News { who, presence, conversations } in news {
            let header = Header::Ephemeral { from: who.clone() };
            let delivery = EncodedEvent::new(Event { header, frame: presence.frame(&who).into() });
            for conversation in conversations {
                if !self.hub.tell(&Channel::new(location, conversation), &delivery)
                    && let Some(place) = places.get_mut(location)
                {
                    place.watched.ask(conversation, &who);
                    self.questions.report(ConversationCheck { location: location.clone(), conversation });
                }
            }
        }
    }

    /// Tells Redis who comes and goes, and that this gateway lives.
    async fn tell(&self, ledger: &Ledger, shutdown: &Shutdown) {
        let every = self.times.lease / PROLONGED;
        let mut prolong_at = Instant::now();
        while !shutdown.has_begun() {
            let now = Instant::now();
            if now >= prolong_at {
                prolong_at = now + if self.prolong(ledger).await { every } else { PAUSE };
            }
            self.write(ledger, self.changes(now)).await;
            // Whoever comes or goes meanwhile goes together into the next round.
            sleep_until(now + APART).await;
            let due = self.due().unwrap_or(prolong_at).min(prolong_at);
            tokio::select! {
                () = self.moved.notified() => {}
                () = self.anew.notified() => prolong_at = Instant::now(),
                () = sleep_until(due) => {}
                () = shutdown.begun() => {}
            }
        }
        // Whoever was here is most likely at another gateway by now, or will be soon; whoever is not goes with the lease.
        let lease = self.times.linger;
        let last = self.names().into_iter().map(|name| async move { ledger.prolong(&name, lease, 0).await });
        stream::iter(last).buffer_unordered(AT_ONCE).for_each(async |_unreachable| {}).await;
    }

    /// Whether Redis cannot be told of a location while it can of others, which are not to wait for that.
    fn is_left_out(&self, location: &LocationId) -> bool {
        self.hub.is_left_out(&Channel::presence(location))
    }

    fn names(&self) -> Vec<Name> {
        let places = self.places.lock();
        let places = places.iter().filter(|(location, _)| !self.is_left_out(location));
        places.map(|(location, place)| Name::of(location, place)).collect()
    }

    fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let due = |(location, place): (&LocationId, &Place)| {
            let due = place.people.due(now, self.times.linger)?.max(place.retry_at);
            (!self.is_left_out(location)).then_some(due)
        };
        self.places.lock().iter().filter_map(due).min()
    }

    /// What Redis is to be told, a script each.
    fn changes(&self, now: Instant) -> Vec<(Name, Vec<Change>)> {
        let mut changes = Vec::new();
        self.places.lock().retain(|location, place| {
            if changes.len() < AT_ONCE && place.retry_at <= now && !self.is_left_out(location) {
                let some = place.people.take(now, self.times.linger, PEOPLE);
                if !some.is_empty() {
                    changes.push((Name::of(location, place), some));
                }
            }
            !place.is_empty()
        });
        changes
    }

    async fn write(&self, ledger: &Ledger, changes: Vec<(Name, Vec<Change>)>) {
        let write = async |(name, changes): (Name, Vec<Change>)| {
            let written = ledger.change(&name, &changes).await;
            (name, changes, written)
        };
        let mut writing = stream::iter(changes.into_iter().map(write)).buffer_unordered(AT_ONCE);
        while let Some((name, changes, written)) = writing.next().await {
            let mut places = self.places.lock();
            // All is written anew, under another name: what became of this does not matter.
            let Some(place) = places.get_mut(&name.location).filter(|place| name.is_of(place)) else { continue };
            match written {
                Ok(()) => {
                    let came = changes.iter().filter(|change| change.left.is_none()).count();
                    counter!("gateway_presence_changes_total", "change" => "came").increment(came as u64);
                    let went = changes.len() - came;
                    counter!("gateway_presence_changes_total", "change" => "went").increment(went as u64);
                    place.people.done(changes);
                    if place.is_empty() {
                        places.remove(&name.location);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "redis has not heard who came and went");
                    counter!("gateway_presence_retries_total").increment(1);
                    place.people.failed(changes);
                    place.failed();
                }
            }
        }
    }

    /// Prolongs the lease of every location, and sends away those who were at gateways that have died. Returns whether that is
    /// enough for a while.
    async fn prolong(&self, ledger: &Ledger) -> bool {
        let lease = self.times.lease;
        let names: Vec<_> = {
            let places = self.places.lock();
            let sweep = |place: &Place| if place.steady_since.elapsed() > lease { PEOPLE } else { 0 };
            let reached = places.iter().filter(|(location, _)| !self.is_left_out(location));
            reached.map(|(location, place)| (Name::of(location, place), sweep(place))).collect()
        };
        let prolong = async |(name, sweep): (Name, usize)| {
            let prolonged = ledger.prolong(&name, lease, sweep).await;
            (name, prolonged)
        };
        let mut prolonging = stream::iter(names.into_iter().map(prolong)).buffer_unordered(AT_ONCE);
        let mut is_enough = true;
        while let Some((name, prolonged)) = prolonging.next().await {
            let mut places = self.places.lock();
            let Some(place) = places.get_mut(&name.location).filter(|place| name.is_of(place)) else { continue };
            match prolonged {
                Ok((held, swept)) => {
                    counter!("gateway_presence_changes_total", "change" => "swept").increment(swept as u64);
                    is_enough &= swept < PEOPLE;
                    let differs = place.people.is_settled() && held != place.people.written();
                    if differs || place.written_at.elapsed() > Duration::from_millis(WRITTEN_KEPT_MILLIS) {
                        place.write_anew(self.next_incarnation());
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "redis has not heard that this gateway lives");
                    counter!("gateway_presence_retries_total").increment(1);
                    place.failed();
                    is_enough = false;
                }
            }
        }
        is_enough
    }

    /// Looks at those who are watched, and at all of them now and then.
    async fn look(&self, ledger: &Ledger) {
        let mut all_at = Instant::now() + self.times.look;
        loop {
            let began = Instant::now();
            if began >= all_at {
                all_at = began + self.times.look;
                for (location, place) in self.places.lock().iter_mut() {
                    place.watched.look_at_all();
                    for conversation in place.watched.ask_again() {
                        self.questions.report(ConversationCheck { location: location.clone(), conversation });
                    }
                }
            }
            let looks = self.looks(began);
            if looks.is_empty() {
                let retry_at = self.retry_at().unwrap_or(all_at);
                tokio::select! {
                    () = self.looking.notified() => {}
                    () = sleep_until(all_at.min(retry_at)) => {}
                }
                continue;
            }
            let see = async |(location, looks): (LocationId, Vec<Look>)| {
                let seen = ledger.who_is_online(&location, &looks).await;
                (location, looks, seen)
            };
            let mut seeing = stream::iter(looks.into_iter().map(see)).buffer_unordered(AT_ONCE);
            while let Some((location, looks, seen)) = seeing.next().await {
                match seen {
                    Ok(seen) => self.saw(&location, &looks, &seen),
                    Err(error) => {
                        tracing::debug!(%error, "redis does not say who is online");
                        if let Some(place) = self.places.lock().get_mut(&location) {
                            place.watched.not_seen(looks);
                            place.failed();
                        }
                    }
                }
            }
            sleep_until(began + APART).await;
        }
    }

    /// When those can be looked at again who could not be.
    fn retry_at(&self) -> Option<Instant> {
        let places = self.places.lock();
        let due = places.iter().filter(|(location, place)| place.watched.is_due() && !self.is_left_out(location));
        due.map(|(_, place)| place.retry_at).min()
    }

    fn looks(&self, now: Instant) -> Vec<(LocationId, Vec<Look>)> {
        let mut places = self.places.lock();
        let is_due = |place: &Place| place.watched.is_due() && place.retry_at <= now;
        let due = places.iter_mut().filter(|(location, place)| is_due(place) && !self.is_left_out(location));
        let due = due.take(AT_ONCE);
        due.map(|(location, place)| (location.clone(), place.watched.take(PEOPLE))).collect()
    }

    fn saw(&self, location: &LocationId, looks: &[Look], seen: &[(Presence, Option<Duration>)]) {
        let mut places = self.places.lock();
        for (look, (presence, lasts)) in looks.iter().zip(seen) {
            let Some(place) = places.get_mut(location) else { return };
            // Right after Redis was away, leases have ended of gateways that live.
            if presence.is_online() || place.steady_since.elapsed() > self.times.lease {
                let news = place.watched.saw(look, *presence, *lasts);
                self.spread(&mut places, location, news);
            }
        }
    }
}

impl Name {
    fn of(location: &LocationId, place: &Place) -> Self {
        Self { location: location.clone(), incarnation: place.people.incarnation() }
    }

    fn is_of(&self, place: &Place) -> bool {
        self.incarnation == place.people.incarnation()
    }
}
