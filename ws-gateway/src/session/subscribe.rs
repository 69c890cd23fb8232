//! How a new socket enters its room, and how it resumes: it subscribes, then reads the log from its cursor on.

use std::sync::Arc;

use shared::contract::event::Cursor;
use shared::contract::ids::MessageId;
use shared::contract::token::Principal;
use tokio::time::timeout;

use crate::hub::{JoinError, Membership};
use crate::pubsub::{EventLogError, Replay, ReplayReservation};
use crate::socket::{EncodedEvent, OutboundQueue, Topic};
use crate::state::AppState;

/// Attempts of a handshake to read its log without a gap.
const MAX_ATTEMPTS: usize = 3;

/// The state of a new subscription. From here on the socket misses no event.
pub(crate) struct InitialState {
    pub(crate) membership: Membership,
    /// The cursor of `ready`; `None` for an inbox.
    pub(crate) cursor: Option<Cursor>,
    /// Whether the requested cursor was valid; `None` without one.
    pub(crate) resumed: Option<bool>,
    /// Events after that cursor.
    pub(crate) replay: Vec<Arc<EncodedEvent>>,
    /// Memory that the replay reserves.
    pub(crate) reservation: Option<ReplayReservation>,
    /// Messages that the cursor acknowledges.
    pub(crate) unacknowledged: Vec<MessageId>,
}

/// Why a subscription failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubscribeError {
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    #[error("redis did not confirm the subscription in time")]
    Timeout,
    #[error("the subscription was interrupted repeatedly")]
    Unstable,
}

/// Subscribes, then reads the log. Live events wait in the socket's queue meanwhile; the session skips those that
/// the log already contained. So no event is missed in between.
pub(crate) async fn subscribe(
    app: &AppState,
    topic: &Topic,
    principal: &Arc<Principal>,
    requested: Option<Cursor>,
) -> Result<InitialState, SubscribeError> {
    let channel = &topic.channel();
    for _ in 0..MAX_ATTEMPTS {
        let outbound = OutboundQueue::new(principal.clone(), app.config.session.outbound_queue_bytes);
        let mut membership = app.hub.join(channel.clone(), outbound)?;
        let epoch = timeout(app.config.redis.timeout, membership.wait_until_subscribed())
            .await
            .map_err(|_| SubscribeError::Timeout)??;
        if channel.is_inbox() {
            // An inbox has no log. From now on its rows wait in the queue.
            return Ok(InitialState {
                membership,
                cursor: None,
                resumed: None,
                replay: Vec::new(),
                reservation: None,
                unacknowledged: Vec::new(),
            });
        }
        let mut resumable = match requested {
            // Boxed: most handshakes do not resume, but all would reserve its size.
            Some(requested) => {
                let resumed = Box::pin(app.event_log.replay(channel, requested, principal.participant())).await?;
                resumed.map(|resumed| (requested, resumed))
            }
            None => None,
        };
        let mut reservation = None;
        if let (Some((_, resumed)), Some(person)) = (&resumable, principal.participant())
            && !resumed.events.is_empty()
        {
            reservation =
                app.replay_budget.reserve(person, resumed.events.iter().map(|delivery| delivery.frame().len()).sum());
            resumable = resumable.filter(|_| reservation.is_some());
        }
        let resumed = requested.map(|_| resumable.is_some());
        let (cursor, Replay { events: replay, unacknowledged }) = match resumable {
            Some(resumable) => resumable,
            None => (app.event_log.read_tail(channel).await?, Replay::default()),
        };
        let position = replay.iter().rev().find_map(|delivery| delivery.cursor()).unwrap_or(cursor);
        if membership.confirm_position(epoch, position) {
            return Ok(InitialState { membership, cursor: Some(cursor), resumed, replay, reservation, unacknowledged });
        }
    }
    Err(SubscribeError::Unstable)
}
