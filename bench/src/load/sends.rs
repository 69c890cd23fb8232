//! Sends: each connection in a conversation of its own, or all connections over many conversations.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::load::http::{Connections, RequestSource};
use crate::load::publisher::Template;
use crate::participants::{Pair, Side, WORDS, token};
use crate::stamp::{self, ID_PLACE, Stamp};

/// Connections that send, each in a conversation of its own.
pub(crate) type Senders = Connections<OwnConversations>;

/// One conversation per connection.
pub(crate) struct OwnConversations {
    templates: Vec<(Template, u32)>,
    ids: MessageIds,
}

/// Many conversations, in an order that has nothing to do with the connections.
pub(crate) struct ManyConversations {
    templates: Vec<Template>,
    order: Order,
    ids: MessageIds,
}

/// Which conversation is next.
enum Order {
    /// As listed; so many were sent.
    Listed(Vec<usize>, usize),
    Random(SmallRng),
}

/// The last digits of each `client_message_id`. None may come twice in the life of a database: microseconds pass faster than
/// sends.
struct MessageIds(u64);

impl MessageIds {
    fn new() -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self(u64::try_from(now.as_micros())? & 0xffff_ffff_ffff))
    }

    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

impl Senders {
    /// Connects, one connection a pair, to each address in its turn. Stamps count from `epoch`.
    pub(crate) fn connect(addresses: &[SocketAddr], pairs: &[Pair], epoch: Instant) -> Result<Self> {
        let templates = pairs.iter().map(|pair| Ok((send_template(&pair.doctor(), &pair.patient(), WORDS)?, 0)));
        let source = OwnConversations { templates: templates.collect::<Result<_>>()?, ids: MessageIds::new()? };
        Self::open(addresses, pairs.len(), source, epoch)
    }
}

impl ManyConversations {
    /// A message into each of these places of `templates`, in this order.
    pub(crate) fn listed(templates: Vec<Template>, places: Vec<usize>) -> Result<Self> {
        Ok(Self { templates, order: Order::Listed(places, 0), ids: MessageIds::new()? })
    }

    /// Messages into conversations that are chosen at random.
    pub(crate) fn at_random(templates: Vec<Template>) -> Result<Self> {
        Ok(Self { templates, order: Order::Random(rand::make_rng()), ids: MessageIds::new()? })
    }
}

impl RequestSource for OwnConversations {
    const GOOD_ANSWER: &'static [u8] = b"HTTP/1.1 201";

    fn append(&mut self, connection: usize, due: Duration, out: &mut Vec<u8>) -> bool {
        let id = self.ids.next();
        let Some((template, sent)) = self.templates.get_mut(connection) else { return false };
        template.append(out, Stamp { number: *sent, due }, id);
        *sent += 1;
        true
    }
}

impl RequestSource for ManyConversations {
    const GOOD_ANSWER: &'static [u8] = b"HTTP/1.1 201";

    fn append(&mut self, _: usize, due: Duration, out: &mut Vec<u8>) -> bool {
        let place = match &mut self.order {
            Order::Listed(places, sent) => {
                *sent += 1;
                places.get(*sent - 1).copied()
            }
            Order::Random(random) => Some(random.random_range(0..self.templates.len())),
        };
        let Some(template) = place.and_then(|place| self.templates.get(place)) else { return false };
        template.append(out, Stamp { number: 0, due }, self.ids.next());
        true
    }
}

/// A send of one side to the other: `words` behind its stamp, with places for the stamp and its id.
pub(crate) fn send_template(sender: &Side<'_>, receiver: &Side<'_>, words: &str) -> Result<Template> {
    let token = token(sender).context("no token")?;
    let body = format!(
        r#"{{"location_id":"{}","{}":"{}","{}":"{}","content":"{}{words}","client_message_id":"{ID_PLACE}"}}"#,
        sender.location,
        sender.field("sender"),
        sender.name,
        receiver.field("receiver"),
        receiver.name,
        stamp::PLACE
    );
    let length = body.len();
    Template::new(
        format!(
            "POST /chat/send HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes(),
    )
}
