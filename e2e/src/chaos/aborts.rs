//! Clients that hang up in the middle of requests, as browsers do at every navigation.

use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::join_all;
use rand::RngExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::test_location::{TestLocation, TestUser};

/// How long they go on.
const LASTS: Duration = Duration::from_secs(6);
/// Clients at a time.
const CLIENTS: usize = 12;
/// A client waits at most this long before it hangs up; most requests take less.
const MAX_PATIENCE_MS: u64 = 25;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends requests of every kind and hangs up on them.
pub(super) async fn abort_requests(place: &TestLocation) -> Result<Instant> {
    let (staff, patient) = (place.user("aborter"), place.contact("aborted"));
    let requests = requests(&staff, &patient);
    let address = place.base_url.strip_prefix("http://").context("an address without TLS")?.to_owned();
    let deadline = Instant::now() + LASTS;
    let clients = (0..CLIENTS).map(|_| async {
        while Instant::now() < deadline {
            let request = &requests[rand::rng().random_range(0..requests.len())];
            // A balancer that is being replaced takes no connection: the next one does.
            if timeout(CONNECT_TIMEOUT, abort(&address, request)).await.is_err() {
                continue;
            }
        }
    });
    join_all(clients).await;
    Ok(Instant::now())
}

/// Sends a request, or a part of it, and ends the connection with or without a word.
async fn abort(address: &str, request: &str) -> std::io::Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    let (whole, patience, resets) = {
        let mut rng = rand::rng();
        (rng.random_range(0..4) > 0, rng.random_range(0..MAX_PATIENCE_MS), rng.random_range(0..2) == 0)
    };
    let end = if whole { request.len() } else { rand::rng().random_range(1..request.len()) };
    tcp.write_all(&request.as_bytes()[..end]).await?;
    sleep(Duration::from_millis(patience)).await;
    if resets {
        tcp.set_zero_linger()?;
    }
    Ok(())
}

/// One request for every route, ready for the wire.
fn requests(staff: &TestUser, patient: &TestUser) -> Vec<String> {
    let location = &staff.place.location;
    let send = json!({
        "location_id": location, "sender_user_id": staff.id, "receiver_contact_id": patient.id, "content": "aborted"
    });
    let marks = json!({"message_ids": [uuid::Uuid::now_v7()]});
    let pair = staff.with(patient);
    let routes = [
        ("POST", "/chat/send".to_owned(), send.to_string()),
        ("GET", format!("/chat/history?{pair}&limit=200"), String::new()),
        ("GET", format!("/chat/conversations?location_id={location}"), String::new()),
        ("GET", format!("/chat/presence?location_id={location}&user_id={}", staff.id), String::new()),
        ("PUT", "/chat/read".to_owned(), marks.to_string()),
        ("PUT", "/chat/delivered".to_owned(), marks.to_string()),
        ("POST", "/chat/ws-ticket".to_owned(), String::new()),
        ("GET", "/readyz".to_owned(), String::new()),
        ("GET", format!("/ws?{pair}"), String::new()),
        ("GET", "/nowhere".to_owned(), String::new()),
    ];
    let requests = routes.into_iter().map(|(method, path, body)| {
        let content = match body.len() {
            0 => String::new(),
            length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
        };
        let token = &staff.token;
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{content}\r\n{body}")
    });
    requests.collect()
}
