//! Each baseline of this crate does what `bench/baselines/README.md` says, with a real Redis and PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test fails where it finds the fault")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use baselines::redis::{self, write_command};
use futures_util::StreamExt;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use stack::{Stack, StackEnv, StackOptions};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const TIMEOUT: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(binary: &str, env: &StackEnv) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(binary)
            .env("PORT", port.to_string())
            .env("REDIS_URL", &env.redis_url)
            .env("DATABASE_URL", &env.database_url)
            .env("JWT_SECRET", &env.jwt_secret)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = Self { child, port };
        assert_eq!(line, "ready\n");
        server
    }

    async fn join(&self, channel: &str) -> Socket {
        connect_async(format!("ws://127.0.0.1:{}/ws?channel={channel}", self.port)).await.unwrap().0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn backends() -> (Stack, StackEnv) {
    let stack = Stack::start(StackOptions { only_backends: true, ..StackOptions::default() }).unwrap();
    let env = stack.env();
    (stack, env)
}

/// A command, and its answer as it came.
fn ask(redis: &mut TcpStream, words: &[&str]) -> String {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut command = Vec::new();
    write_command(&mut command, &words);
    redis.write_all(&command).unwrap();
    let mut answer = vec![0; 512];
    let length = redis.read(&mut answer).unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

/// Waits until Redis counts so many subscribers.
async fn subscribed(redis: &mut TcpStream, channel: &str, count: usize) {
    let is_so = async {
        while !ask(redis, &["PUBSUB", "NUMSUB", channel]).ends_with(&format!("\r\n:{count}\r\n")) {
            tokio::task::yield_now().await;
        }
    };
    timeout(TIMEOUT, is_so).await.unwrap();
}

async fn next_text(socket: &mut Socket) -> String {
    match timeout(TIMEOUT, socket.next()).await.unwrap().unwrap().unwrap() {
        Message::Text(text) => text.to_string(),
        other => panic!("not a text frame: {other:?}"),
    }
}

async fn relays_verbatim(binary: &str) {
    let (_stack, env) = backends();
    let server = Server::start(binary, &env);
    let mut redis = redis::connect(&env.redis_url).unwrap();
    let (mut one, mut two, mut other) = (server.join("a").await, server.join("a").await, server.join("b").await);
    subscribed(&mut redis, "a", 1).await;
    subscribed(&mut redis, "b", 1).await;

    let payloads = [r#"{"text":"grüße \"here\""}"#.to_owned(), "x".repeat(125), "x".repeat(126), "x".repeat(300_000)];
    for payload in &payloads {
        assert_eq!(ask(&mut redis, &["PUBLISH", "a", payload]), ":1\r\n");
    }
    ask(&mut redis, &["PUBLISH", "b", "other"]);
    for payload in &payloads {
        assert_eq!(next_text(&mut one).await, *payload);
        assert_eq!(next_text(&mut two).await, *payload);
    }
    assert_eq!(next_text(&mut other).await, "other", "and nothing of another channel");

    // The last socket of a channel takes the subscription with it, and not before.
    one.close(None).await.unwrap();
    ask(&mut redis, &["PUBLISH", "a", "still"]);
    assert_eq!(next_text(&mut two).await, "still");
    drop(two);
    subscribed(&mut redis, "a", 0).await;
    let mut again = server.join("a").await;
    subscribed(&mut redis, "a", 1).await;
    ask(&mut redis, &["PUBLISH", "a", "again"]);
    assert_eq!(next_text(&mut again).await, "again");
}

#[tokio::test]
async fn epoll_gateway_relays_verbatim() {
    relays_verbatim(env!("CARGO_BIN_EXE_baseline-epoll")).await;
}

#[tokio::test]
async fn tungstenite_gateway_relays_verbatim() {
    relays_verbatim(env!("CARGO_BIN_EXE_baseline-tungstenite")).await;
}

#[tokio::test]
async fn slow_epoll_socket_gets_all_in_order() {
    let (_stack, env) = backends();
    let server = Server::start(env!("CARGO_BIN_EXE_baseline-epoll"), &env);
    let mut redis = redis::connect(&env.redis_url).unwrap();
    let mut slow = server.join("a").await;
    subscribed(&mut redis, "a", 1).await;
    // 9 MB: more than the kernel holds, less than what closes the socket.
    for number in 0..150 {
        ask(&mut redis, &["PUBLISH", "a", &format!("{number:060000}")]);
    }
    for number in 0..150 {
        assert_eq!(next_text(&mut slow).await, format!("{number:060000}"));
    }
}

fn token(secret: &str, location: &str, seconds: i64) -> String {
    let exp = OffsetDateTime::now_utc().unix_timestamp() + seconds;
    let claims = json!({ "sub": "doc123", "role": "user", "locations": [location], "exp": exp });
    jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

#[tokio::test]
async fn batched_api_numbers_stores_and_publishes() {
    let (_stack, env) = backends();
    let server = Server::start(env!("CARGO_BIN_EXE_baseline-batched-seq"), &env);
    let (database, connection) = tokio_postgres::connect(&env.database_url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let mut events = redis::connect(&env.redis_url).unwrap();
    events.set_read_timeout(Some(TIMEOUT)).unwrap();
    assert!(
        ask(&mut events, &["SUBSCRIBE", "yard:loc1:contact:pat456:user:doc123"]).starts_with("*3\r\n$9\r\nsubscribe")
    );

    let http = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{}/chat/send", server.port);
    let good = token(&env.jwt_secret, "loc1", 60);
    let send = |token: &str, body: &Value| http.post(&url).bearer_auth(token).json(body).send();
    let body = json!({ "location_id": "loc1", "sender_user_id": "doc123", "receiver_contact_id": "pat456", "content": "hé\n" });

    let answer = send(&good, &body).await.unwrap();
    assert_eq!(answer.status(), 201);
    let text = answer.text().await.unwrap();
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&message["seq"], &message["content"]), (&json!(1), &json!("hé\n")));
    let mut event = vec![0; 1024];
    let length = events.read(&mut event).unwrap();
    assert!(String::from_utf8_lossy(&event[..length]).contains(&text), "the event is the answer");

    let mut sends = JoinSet::new();
    for _ in 0..50 {
        sends.spawn(send(&good, &body));
    }
    let mut seqs = Vec::new();
    for answer in sends.join_all().await {
        seqs.push(answer.unwrap().json::<Value>().await.unwrap()["seq"].as_i64().unwrap());
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (2..=51).collect::<Vec<i64>>());
    let rows = database.query("select seq from yard_ordered_messages order by seq", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i64>>(), (1..=51).collect::<Vec<i64>>());

    let [forged, expired] = [token("another secret", "loc1", 60), token(&env.jwt_secret, "loc1", -60)];
    assert_eq!(send(&forged, &body).await.unwrap().status(), 401);
    assert_eq!(send(&expired, &body).await.unwrap().status(), 401);
    assert_eq!(send(&good, &json!({ "location_id": "loc1", "content": "x" })).await.unwrap().status(), 400);
}
