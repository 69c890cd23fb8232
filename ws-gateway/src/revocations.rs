//! Which tokens were taken back: learnt from Redis, where the API service keeps a copy for the gateways.
//!
//! What was learnt stands, whatever becomes of Redis: a revocation is for good. No token is accepted before all of them
//! were read once, for it could be a revoked one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, EventInterface, HashesInterface};
use fred::types::{ClusterHash, CustomCommand};
use shared::channel::REVOKED;
use shared::revocation::{Revocation, Revocations};
use shared::shutdown::Shutdown;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::sleep;

use crate::hub::Hub;
use crate::redis::redirected;

/// Between two looks at how many there are. With what the API service needs to tell Redis it must stay well below the time
/// that the API service gives everybody to learn of a revocation.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Read at a time: neither Redis nor a lock here is kept from others for long, however many there are.
const PAGE: &str = "1000";

/// What this gateway knows to be revoked.
pub struct Revoked {
    known: Arc<Revocations>,
    loaded: AtomicBool,
}

impl Revoked {
    /// Follows Redis until `shutdown`, and closes the sockets of tokens that are taken back.
    pub fn start(client: Client, hub: Arc<Hub>, shutdown: &Shutdown) -> Arc<Self> {
        let revoked = Arc::new(Self { known: Arc::default(), loaded: AtomicBool::new(false) });
        let (following, ended) = (revoked.clone(), shutdown.clone());
        shutdown.spawn(async move {
            tokio::select! {
                () = following.follow(&client, &hub) => {}
                () = ended.begun() => {}
            }
        });
        revoked
    }

    /// What is known, for the verifier of tokens and for whoever holds something open for one.
    #[must_use]
    pub fn known(&self) -> &Arc<Revocations> {
        &self.known
    }

    /// Whether all of them were read once.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    async fn follow(&self, client: &Client, hub: &Hub) {
        let mut reconnected = client.reconnect_rx();
        // How many Redis held when they were read last. They only grow, so another number means others, and the same
        // number the same ones; except on another connection, whose Redis may have lost some and been given new ones.
        let mut held = None;
        loop {
            if any(&mut reconnected) {
                held = None;
            }
            match self.look(client, hub, held).await {
                Ok(count) => held = Some(count),
                Err(error) if self.is_loaded() => {
                    tracing::debug!(%error, "revocations cannot be read; those that are known stand");
                }
                Err(error) => tracing::warn!(%error, "revocations cannot be read: no socket is opened"),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Reads all when there are not as many as were `held`. Returns how many there are at least; more may have come
    /// while it read, and are found by the next look.
    async fn look(&self, client: &Client, hub: &Hub, held: Option<u64>) -> Result<u64, Error> {
        let count: u64 = redirected(|| client.hlen(REVOKED)).await?;
        if held == Some(count) {
            return Ok(count);
        }
        let news = self.read(client).await?;
        self.loaded.store(true, Ordering::Release);
        metrics::gauge!("gateway_revocations").set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        if news {
            let closed = hub.close_revoked(&self.known);
            tracing::info!(closed, "tokens were revoked");
        }
        Ok(count)
    }

    /// Learns all that Redis holds. Returns whether there was news.
    async fn read(&self, client: &Client) -> Result<bool, Error> {
        let (mut place, mut news) = ("0".to_owned(), false);
        loop {
            // By hand: the library's stream of pages ends without a word when the connection does.
            let scan = || {
                let command = CustomCommand::new_static("HSCAN", ClusterHash::FirstKey, false);
                client.custom(command, vec![REVOKED, &place, "COUNT", PAGE])
            };
            let (next, fields): (String, Vec<String>) = redirected(scan).await?;
            // Names and values take turns; the names are what counts.
            let read = fields.iter().step_by(2).map(|name| serde_json::from_str::<Revocation>(name));
            let (readable, unreadable): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
            if !unreadable.is_empty() {
                tracing::error!(count = unreadable.len(), "ignored what is no revocation");
            }
            news |= self.known.add(readable.into_iter().flatten());
            if next == "0" {
                return Ok(news);
            }
            place = next;
        }
    }
}

/// Whether something has come, which is taken.
fn any<T: Clone>(events: &mut Receiver<T>) -> bool {
    let mut any = false;
    while !matches!(events.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
        any = true;
    }
    any
}
