//! Clients that come and go. Each kind has its own pace, so that a slow machine does the same in more time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::socket::Socket;
use crate::test_location::{TestLocation, TestUser};
use crate::token;

/// Participants of each kind; every pair of them may meet, and most pairs are new.
const PARTICIPANTS: u32 = 2_000;
/// Clients of each kind side by side, and the pause of each between two things it does.
const CLIENTS: [(Kind, usize, Duration); 5] = [
    (Kind::Socket, 8, Duration::from_millis(100)),
    (Kind::Inbox, 4, Duration::from_millis(200)),
    (Kind::Abort, 8, Duration::from_millis(50)),
    (Kind::Ticket, 4, Duration::from_millis(200)),
    (Kind::Revocation, 1, Duration::from_millis(250)),
];

/// What a client does over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Opens a conversation that may be new, sends, hears its message, marks, leaves.
    Socket,
    /// Opens an inbox, reads the list, leaves without a word.
    Inbox,
    /// Hangs up in the middle of a request.
    Abort,
    /// Buys a ticket; uses every second one.
    Ticket,
    /// Revokes a token that was never used.
    Revocation,
}

/// All clients.
pub(super) struct Load {
    tasks: JoinSet<()>,
    done: Arc<AtomicU64>,
}

impl Load {
    pub(super) fn begin(place: &TestLocation) -> Self {
        let (done, mut tasks) = (Arc::<AtomicU64>::default(), JoinSet::new());
        for (kind, clients, pause) in CLIENTS {
            for _ in 0..clients {
                tasks.spawn(keep(kind, place.clone(), pause, done.clone()));
            }
        }
        Self { tasks, done }
    }

    /// What was done so far.
    pub(super) fn count(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Clients that ended, which none does by itself.
    pub(super) fn failures(&mut self) -> usize {
        std::iter::from_fn(|| self.tasks.try_join_next()).count()
    }

    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn keep(kind: Kind, place: TestLocation, pause: Duration, done: Arc<AtomicU64>) {
    let mut beat = interval(pause);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        match kind {
            Kind::Socket => converse(&place).await,
            Kind::Inbox => look_into_inbox(&place).await,
            Kind::Abort => abort(&place).await,
            Kind::Ticket => buy_ticket(&place).await,
            Kind::Revocation => revoke(&place).await,
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn pair(place: &TestLocation) -> (TestUser, TestUser) {
    let mut rng = rand::rng();
    let mut number = || rng.random_range(0..PARTICIPANTS);
    (place.user(&format!("doc{}", number())), place.contact(&format!("pat{}", number())))
}

async fn converse(place: &TestLocation) {
    let (staff, patient) = pair(place);
    let mut socket = patient.open(&staff).await;
    let sent = staff.send_ok(&patient, "an hour of coming and going").await;
    // Two clients may have picked the same pair.
    while socket.expect("message").await["message"]["id"] != sent["id"] {}
    assert_eq!(patient.mark("read", &[&sent["id"]]).await.status, 200);
}

async fn look_into_inbox(place: &TestLocation) {
    let (staff, _) = pair(place);
    let _socket = staff.open_inbox().await;
    staff.inbox("&limit=20").await;
}

async fn buy_ticket(place: &TestLocation) {
    let (staff, patient) = pair(place);
    let ticket = staff.place.ask(staff.request(Method::POST, "/chat/ws-ticket")).await.expect_status(200);
    if rand::rng().random_range(0..2) == 0 {
        let url = format!("{}?{}&ticket={}", place.ws_url, staff.with(&patient), ticket["ticket"].as_str().unwrap());
        let opened = Socket::connect_with(&url, &[]).await;
        assert!(opened.is_ok(), "a ticket is good for one socket");
    }
}

async fn revoke(place: &TestLocation) {
    let claims = token::with(token::claims("ehr-admin", "service", &[&place.location]), "admin", true.into());
    let admin = place.service().with_token(place.sign(&claims));
    let body = json!({"jti": Uuid::now_v7()});
    let answer = place.ask(admin.request(Method::POST, "/admin/revocations").json(&body)).await;
    assert_eq!(answer.status, 204);
}

async fn abort(place: &TestLocation) {
    let (staff, patient) = pair(place);
    let address = place.base_url.strip_prefix("http://").expect("an address without TLS");
    let path = format!("/chat/history?{}&limit=200", staff.with(&patient));
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", staff.token);
    let mut tcp = TcpStream::connect(address).await.expect("the balancer accepts");
    tcp.write_all(request.as_bytes()).await.expect("the balancer reads");
    let patience = rand::rng().random_range(0..20);
    sleep(Duration::from_millis(patience)).await;
    tcp.set_zero_linger().expect("a socket");
}
