//! Sessions, polled by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use shared::contract::audit::Action;
use shared::contract::event::{Event, Header, Recipient};
use shared::contract::participant::Conversation;
use shared::contract::redis::keys::Channel;
use shared::contract::token::Verifier;
use shared::kit::env::Env;
use shared::kit::shutdown::Shutdown;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};

use super::event_loop::{MAX_READS_PER_POLL, MAX_WRITES_PER_READ, WRITE_TIMEOUT};
use super::scratch::{INPUT_BYTES, WRITE_BATCH_BYTES};
use super::*;
use crate::auth::RevocationSync;
use crate::auth::TicketRedeemer;
use crate::config::Config;
use crate::hub::Hub;
use crate::hub::tests::principal;
use crate::presence::{PresenceRegistry, PresenceTiming};
use crate::pubsub::TypingPublisher;
use crate::pubsub::{EventLog, LogTtl, ReplayBudget};
use crate::rate_limit::RateLimits;
use crate::redis::RedisConnector;
use crate::socket::QueueItem;
use crate::socket::TimerWheel;
use crate::streams::StreamProducer;
use crate::streams::audit::AuditProducer;
use crate::streams::receipts::ReceiptProducer;

const QUEUE_BYTES: usize = 1 << 20;

/// A session, its client, and whether its task was woken since the last poll.
struct Polled {
    session: Session,
    client: TcpStream,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Polled {
    /// A session at position 100-0.
    async fn open() -> Self {
        Self::paced("0").await
    }

    /// With a frame limit per second.
    async fn paced(frames: &'static str) -> Self {
        let (tcp, client) = pair().await;
        let app = app(frames);
        let principal = principal("user:doc123", None);
        let conversation = Conversation::new(
            "loc1".parse().unwrap(),
            "user:doc123".parse().unwrap(),
            "contact:pat456".parse().unwrap(),
        )
        .unwrap();
        let outbound = OutboundQueue::new(principal.clone(), QUEUE_BYTES);
        app.hub.connected();
        let membership = app.hub.join(Channel::new(conversation.location(), conversation.id()), outbound).unwrap();
        let start = InitialState {
            membership,
            cursor: Some("100-0".parse().unwrap()),
            resumed: None,
            replay: Vec::new(),
            reservation: None,
            unacknowledged: Vec::new(),
        };
        let permit = app.socket_permits.clone().try_acquire_owned().unwrap();
        let address = [127, 0, 0, 1].into();
        let permit = app.rate_limits.acquire_socket(permit, &principal, address).unwrap();
        let context = RequestContext { request_id: "r".into(), address };
        let topic = Topic::Conversation(conversation);
        let admitted = AcceptedSocket { context, principal, topic, start, permit };
        let mut session = Session::new(app, tcp, b"", admitted, 0.0);
        // The token expires by the clock of the test.
        let expires_at = OffsetDateTime::now_utc() + Duration::from_secs(3600);
        session.deadlines.renew(&Principal { expires_at, ..(*session.principal).clone() });
        Self { session, client, woken: Arc::default() }
    }

    fn poll_once(&mut self) -> Poll<Disconnect> {
        self.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(self.woken.clone());
        scratch::with(|scratch| self.session.poll(&mut Context::from_waker(&waker), scratch))
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }

    /// Polls as a runtime would, until the task waits or ends.
    fn poll(&mut self) -> Poll<Disconnect> {
        loop {
            let ended = self.poll_once();
            if ended.is_ready() || !self.is_woken() {
                return ended;
            }
        }
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    // Small buffers fill quickly.
    socket2::SockRef::from(&tcp).set_send_buffer_size(1).unwrap();
    tcp.writable().await.unwrap();
    (tcp, client)
}

/// State without a reachable Redis.
fn app(frames: &'static str) -> Arc<AppState> {
    let config = Config::read(Env::from_fn(|name| match name {
        "REDIS_URL" => Some("redis://127.0.0.1:1".to_owned()),
        "JWT_SECRET" => Some("5d1c9e0fb2a84c7790d36b1f8e2a4c09".to_owned()),
        // These tests send floods.
        "MAX_FRAMES_PER_SECOND" => Some(frames.to_owned()),
        _ => None,
    }))
    .unwrap();
    let background = Shutdown::new();
    let redis = RedisConnector::new(&config.redis.link.url, None, config.redis.timeout).unwrap();
    let commands = redis.commands(&background).unwrap();
    let hub = Hub::new();
    let revocations = RevocationSync::start(commands.clone(), hub.clone(), &background);
    let times = PresenceTiming {
        lease: config.presence.lease,
        grace: config.presence.grace,
        poll_interval: config.events.reconcile_interval,
    };
    Arc::new(AppState {
        verifier: Verifier::from_secret(config.tokens.secret.as_ref().unwrap())
            .with_revocations(revocations.revocations().clone()),
        revocations,
        tickets: TicketRedeemer::new(commands.clone()),
        event_log: EventLog::new(
            commands.clone(),
            LogTtl { with_events: config.events.log_ttl, marker_only: config.events.marker_ttl() },
            config.session.outbound_queue_bytes,
            Arc::default(),
        ),
        replay_budget: ReplayBudget::new(config.session.outbound_queue_bytes),
        receipts: ReceiptProducer::start(commands.clone(), &background),
        audit: AuditProducer::start(StreamProducer::start(commands.clone(), &background), &background),
        presence: PresenceRegistry::start(&commands, &hub, times, &background),
        typing: TypingPublisher::start(commands, &background),
        socket_permits: Arc::new(Semaphore::new(1)),
        rate_limits: RateLimits::new(&config.rate_limit),
        handshake_permits: Arc::new(Semaphore::new(1)),
        max_handshakes: 1,
        traces: None,
        started_at: Instant::now(),
        shutdown: Shutdown::new(),
        frames_sent: metrics::counter!("ehr_chat_gateway_frames_sent_total"),
        open_sockets: metrics::gauge!("ehr_chat_gateway_sockets"),
        delivery_latency: metrics::histogram!("ehr_chat_gateway_delivery_latency_seconds"),
        timer_wheel: TimerWheel::new(),
        hub,
        config,
    })
}

/// An event before the position, which is queued but not written.
fn seen(n: usize, bytes: usize) -> QueueItem {
    assert!(n <= 100);
    event(n, bytes)
}

fn event(n: usize, bytes: usize) -> QueueItem {
    event_to(n, bytes, None)
}

fn event_to(n: usize, bytes: usize, recipient: Option<Recipient>) -> QueueItem {
    let header = Header::Logged { cursor: format!("{n}-0").parse().unwrap(), previous: None, recipient };
    QueueItem::Event(EncodedEvent::new(Event { header, frame: "x".repeat(bytes).into() }))
}

#[test]
fn idle_session_is_small() {
    // A gateway holds 100,000 sessions of this size.
    let bytes = size_of::<SessionTask>();
    assert!(bytes <= 512, "{bytes} bytes");
}

#[tokio::test]
async fn dropped_task_closes_its_socket_in_audit_trail() {
    let Polled { session, .. } = Polled::open().await;
    let app = session.app.clone();
    app.audit.take_queued();
    drop(SessionTask::from(session));
    let closed = app.audit.take_queued();
    assert!(matches!(closed.as_slice(), [entry] if entry.action == Action::SocketClose), "{closed:?}");
    assert_eq!(closed[0].outcome, closing::ABNORMAL_CLOSURE);
}

#[tokio::test]
async fn session_is_woken_after_write_limit() {
    for rounds in [1, MAX_WRITES_PER_READ - 1, MAX_WRITES_PER_READ, MAX_WRITES_PER_READ + 1, 3 * MAX_WRITES_PER_READ] {
        let mut socket = Polled::open().await;
        assert!(socket.poll().is_pending());
        for n in 0..rounds {
            socket.session.outbound().push(seen(n, WRITE_BATCH_BYTES + 1));
        }
        assert!(socket.poll().is_pending());
        socket.session.outbound().push(QueueItem::GoingAway);
        assert!(socket.is_woken(), "after {rounds} rounds");
    }
}

#[tokio::test]
async fn blocked_write_times_out_after_other_timers_fired() {
    let mut socket = Polled::open().await;
    for n in 101.. {
        socket.session.outbound().push(event(n, WRITE_BATCH_BYTES));
        assert!(socket.poll().is_pending());
        if socket.session.write_blocked_since.is_some() {
            break;
        }
    }
    let (now, left) = (Instant::now(), Duration::from_secs(1));
    let session = &mut socket.session;
    session.write_blocked_since = Some(now + left - WRITE_TIMEOUT);
    // The timer has fired already.
    let later = now + Duration::from_secs(20);
    session.timer = SocketTimer::new(&session.app.timer_wheel, session.membership.outbound(), later);
    session.outbound().wake_for_timer();
    assert!(socket.poll().is_pending());
    assert!(socket.session.timer.next_at() < now + 2 * left);
    socket.session.write_blocked_since = Some(now - WRITE_TIMEOUT);
    socket.session.outbound().wake_for_timer();
    assert_eq!(socket.poll(), Poll::Ready(Disconnect::Local(CloseReason::TooSlow)));
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// A client frame with an all-zero mask.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn flooding_client_yields_to_others() {
    let mut socket = Polled::open().await;
    assert!(socket.poll().is_pending());
    let flood = frame(PONG, b"").repeat(3 * MAX_READS_PER_POLL * INPUT_BYTES / 6);
    socket.client.write_all(&flood).await.unwrap();
    socket.session.tcp.readable().await.unwrap();
    for _ in 0..2 {
        assert!(socket.poll_once().is_pending());
        assert!(socket.is_woken(), "it goes on after the others");
    }
    assert!(socket.poll().is_pending());
}

#[tokio::test]
async fn replies_to_flood_are_bounded() {
    let mut socket = Polled::open().await;
    assert!(socket.poll().is_pending());
    socket.client.write_all(&frame(TEXT, b"").repeat(3000)).await.unwrap();
    socket.session.tcp.readable().await.unwrap();
    assert!(socket.poll().is_pending());
    let held = socket.session.unsent.len();
    assert!((1..=2 * WRITE_BATCH_BYTES).contains(&held), "{held} bytes");
}

#[tokio::test]
async fn frames_before_close_are_answered() {
    let peer = Disconnect::Remote(Some(1000));
    for (last, end) in [(frame(CLOSE, &[3, 232]), peer), (frame(3, b""), Disconnect::Local(CloseReason::Protocol))] {
        let mut socket = Polled::open().await;
        assert!(socket.poll().is_pending());
        let ping = frame(TEXT, br#"{"type":"ping"}"#);
        socket.client.write_all(&[ping, last].concat()).await.unwrap();
        socket.session.tcp.readable().await.unwrap();
        assert_eq!(socket.poll(), Poll::Ready(end));
        let mut answer = Vec::new();
        websocket::text(&mut answer, &protocol::PONG);
        assert_eq!(socket.session.unsent, answer);
    }
}

#[tokio::test]
async fn receipts_count_until_connection_ends() {
    let mut socket = Polled::open().await;
    for n in [101, 102] {
        let to = "user:doc123".parse().unwrap();
        let message = Recipient { participant: to, message_id: uuid::Uuid::from_u128(n) };
        socket.session.outbound().push(event_to(n as usize, 10, Some(message)));
        assert!(socket.poll().is_pending());
    }
    let app = socket.session.app.clone();
    // A Pong to the Ping in flight, and a receipt for one message.
    let read = format!(r#"{{"type":"read","message_ids":["{}"]}}"#, uuid::Uuid::from_u128(101));
    let said = [frame(PONG, &1_u64.to_be_bytes()), frame(TEXT, read.as_bytes()), frame(CLOSE, &[3, 232])];
    socket.client.write_all(&said.concat()).await.unwrap();
    socket.client.shutdown().await.unwrap();
    closing::close(socket.session, Disconnect::Local(CloseReason::TooSlow)).await;
    assert_eq!(app.receipts.queued_weight(), 2);
}

#[tokio::test]
async fn due_ping_follows_next_event_or_goes_alone() {
    let mut socket = Polled::open().await;
    let mut expected = Vec::new();
    websocket::text(
        &mut expected,
        &protocol::ready(socket.session.topic.conversation_id(), "100-0".parse().ok(), None),
    );
    // Whether the event is for the participant, the time since the last step, and the expected Ping.
    let steps = [
        (Some(true), 0, Some(1)),
        (Some(true), 0, None),
        (None, 500, None),
        (Some(false), 0, Some(2)),
        (Some(true), 0, None),
        (None, 500, None),
        (None, 500, Some(3)),
    ];
    for (n, (event, after, ping)) in (101..).zip(steps) {
        socket.session.delivery_tracker.pinged_earlier_by(Duration::from_millis(after));
        if let Some(is_for_owner) = event {
            let message = Recipient {
                participant: if is_for_owner { "user:doc123" } else { "contact:pat456" }.parse().unwrap(),
                message_id: uuid::Uuid::from_u128(n),
            };
            socket.session.outbound().push(event_to(n as usize, 10, Some(message)));
            websocket::text(&mut expected, &"x".repeat(10));
        } else {
            socket.session.outbound().wake_for_timer();
        }
        assert!(socket.poll().is_pending());
        if let Some(ping) = ping {
            websocket::ping(&mut expected, &u64::to_be_bytes(ping));
        }
        let mut said = vec![0; expected.len()];
        let read = socket.client.read_exact(&mut said);
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
        assert_eq!(said, expected, "at {n}");
        expected.clear();
        if let Some(ping) = ping {
            socket.client.write_all(&frame(PONG, &u64::to_be_bytes(ping))).await.unwrap();
            socket.session.tcp.readable().await.unwrap();
            assert!(socket.poll().is_pending());
        }
    }
    let nothing = socket.client.try_read(&mut [0; 1]);
    assert_eq!(nothing.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn receipts_are_ignored_after_client_fault() {
    for (close, marks) in [(CloseReason::TokenRevoked, 0), (CloseReason::TooManyFrames, 0), (CloseReason::TooSlow, 1)] {
        let mut socket = Polled::open().await;
        assert!(socket.poll().is_pending());
        let app = socket.session.app.clone();
        let read = format!(r#"{{"type":"read","message_ids":["{}"]}}"#, uuid::Uuid::from_u128(101));
        let said = [frame(TEXT, read.as_bytes()), frame(CLOSE, &[3, 232])].concat();
        socket.client.write_all(&said).await.unwrap();
        socket.client.shutdown().await.unwrap();
        closing::close(socket.session, Disconnect::Local(close)).await;
        assert_eq!(app.receipts.queued_weight(), marks, "{close:?}");
    }
}

#[tokio::test]
async fn receipt_is_charged_per_message() {
    let mut socket = Polled::paced("100").await;
    assert!(socket.poll().is_pending());
    let ids: Vec<String> = (0..500).map(|n| uuid::Uuid::from_u128(n).to_string()).collect();
    let read = serde_json::json!({"type": "read", "message_ids": ids}).to_string();
    // A burst is 1,000 frames: 20 receipts of 500 messages.
    let length = u16::try_from(read.len()).unwrap().to_be_bytes();
    let long = [&[0x81, 0xfe], &length[..], &[0; 4], read.as_bytes()].concat();
    for _ in 0..40 {
        socket.session.read_frames(&long, &mut Vec::new()).unwrap();
    }
    let accepted =
        socket.session.app.receipts.take_queued().iter().map(|receipt| receipt.message_ids.len()).sum::<usize>();
    assert!((19 * 500..=20 * 500).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn protocol_error_sends_no_closing_ping() {
    for (close, is_asked) in
        [(CloseReason::Protocol, false), (CloseReason::TooLarge, false), (CloseReason::TokenRevoked, true)]
    {
        let mut socket = Polled::open().await;
        assert!(socket.poll().is_pending());
        socket.session.delivery_tracker.track(uuid::Uuid::from_u128(1));
        let mut expected = Vec::new();
        websocket::text(
            &mut expected,
            &protocol::ready(socket.session.topic.conversation_id(), "100-0".parse().ok(), None),
        );
        if is_asked {
            websocket::ping(&mut expected, &1_u64.to_be_bytes());
        }
        let close_frame = CloseFrame { code: close.code().into(), reason: close.reason().as_str().into() };
        Frame::close(Some(close_frame)).format(&mut expected).unwrap();
        let Polled { session, mut client, .. } = socket;
        client.shutdown().await.unwrap();
        closing::close(session, Disconnect::Local(close)).await;
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, expected, "{close:?}");
    }
}
