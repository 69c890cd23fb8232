//! Stands in for both services in the tests of this crate: answers HTTP with what it was asked.
//! Refuses to be more: paths below `/do/` make it misbehave in one way each, and so does the header `X-Answer`:
//! 503 refuses, 101 opens a socket that only its client closes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static READY: AtomicBool = AtomicBool::new(true);
static POSTS: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);
static CLOSED: AtomicU32 = AtomicU32::new(0);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("serve") => serve(),
        Some("migrate") => migrate(),
        Some("token") => println!("token-of-{}", arguments.get(3).map_or("", String::as_str)),
        other => panic!("what is {other:?}?"),
    }
}

fn migrate() {
    if std::env::var_os("FAKE_MIGRATION_FAILS").is_some() {
        println!("relation \"messages\" is not what it was");
        std::process::exit(1);
    }
}

#[allow(clippy::unwrap_used, reason = "a stand-in may die loudly")]
fn serve() {
    let listener = TcpListener::bind(std::env::var("LISTEN_ADDR").unwrap()).unwrap();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        std::thread::spawn(move || while answer(&stream).is_some() {});
    }
}

/// Answers one request; none at the end of the connection.
fn answer(mut stream: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        lines.push(line.trim_end().to_ascii_lowercase());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    reader.read_exact(&mut vec![0; length]).ok()?;
    let request = lines.first()?;
    if request.starts_with("post") {
        POSTS.fetch_add(1, Ordering::Relaxed);
    }
    match request.split(' ').nth(1)? {
        "/readyz" if !READY.load(Ordering::Relaxed) => return None,
        "/do/fail-checks" => READY.store(false, Ordering::Relaxed),
        "/do/hang-up" => return None,
        "/do/exit" => std::process::exit(3),
        _ => {}
    }
    if lines.iter().any(|line| line == "x-answer: 503") {
        REFUSED.fetch_add(1, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").ok()?;
        return Some(());
    }
    if lines.iter().any(|line| line == "x-answer: 101") {
        // HAProxy requires the accept header, and leaves its value to the client.
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
        let _end = reader.read_to_end(&mut Vec::new());
        CLOSED.fetch_add(1, Ordering::Relaxed);
        return None;
    }
    let seen = [
        format!("pid={}", std::process::id()),
        format!("posts={}", POSTS.load(Ordering::Relaxed)),
        format!("refused={};", REFUSED.load(Ordering::Relaxed)),
        format!("closed={};", CLOSED.load(Ordering::Relaxed)),
        format!("database_url={}", std::env::var("DATABASE_URL").is_ok()),
    ];
    let body = [lines.join("\n"), seen.join("\n")].join("\n");
    // As our services do: the id that came, which the balancer has made sure of.
    let id = lines.iter().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or("none");
    let head = format!("HTTP/1.1 200 OK\r\nX-Request-Id: {id}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).ok()?;
    (!lines.iter().any(|line| line == "connection: close")).then_some(())
}
