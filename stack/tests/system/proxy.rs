//! `deploy/haproxy.cfg` as clients see it: routes, request ids, problem bodies, and no second send.

use std::io::{Read, Write};

use stack::Stack;

use crate::test_env::{exchange, exchange_with, get, wait_until, with_fake_services};

/// The value of an answer's header, which must be there exactly once.
fn header(answer: &str, name: &str) -> String {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let values: Vec<&str> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(values.len(), 1, "{name} in {answer}");
    values[0].to_owned()
}

fn assert_problem(answer: &str, status: u16, code: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert_eq!(header(answer, "content-type"), "application/problem+json");
    let id = header(answer, "x-request-id");
    assert!(!id.is_empty());
    assert_eq!(header(answer, "x-content-type-options"), "nosniff");
    assert_eq!(header(answer, "referrer-policy"), "no-referrer");
    assert!(header(answer, "content-security-policy").starts_with("default-src 'none'"), "{answer}");
    for member in ["\"type\":\"about:blank\"", "\"title\":\"", "\"detail\":\"", &format!("\"status\":{status}")] {
        assert!(answer.contains(member), "{member} in {answer}");
    }
    assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    assert!(answer.contains(&format!("\"request_id\":\"{id}\"")), "{answer}");
}

#[test]
fn proxy_routes_requests_with_id_and_address() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let env = stack.env();

    let answer = get(&stack, "/chat/history?a=1", "X-Request-Id: mine-1\r\nX-Forwarded-For: 6.6.6.6\r\n");
    assert_eq!(header(&answer, "x-request-id"), "mine-1");
    assert!(answer.contains(&format!("pid={}", env.api_pids[0])), "{answer}");
    assert!(answer.contains("get /chat/history?a=1 http/1.1") && answer.contains("x-request-id: mine-1"), "{answer}");
    assert!(answer.contains("database_url=true") && !answer.contains("6.6.6.6"), "{answer}");

    let answer = get(&stack, "/ws?user_id=doc123", "");
    assert!(env.gateway_pids.iter().any(|pid| answer.contains(&format!("pid={pid}"))), "{answer}");
    assert!(answer.contains("database_url=false"), "{answer}");
    assert!(get(&stack, "/wsx", "").contains("database_url=true"));

    for insane in ["no spaces", "quote\"", &"x".repeat(65), "", "a\r\nX-Request-Id: b"] {
        let answer = get(&stack, "/", &format!("X-Request-Id: {insane}\r\n"));
        assert_eq!(header(&answer, "x-request-id").len(), 36, "a fresh UUID in place of {insane:?}: {answer}");
    }
    stack.stop().unwrap();
}

#[test]
fn proxy_does_not_repeat_delivered_post() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let post =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}");
    assert_problem(&exchange(&stack, &post("/do/hang-up")), 502, "bad_gateway");
    let answer = exchange(&stack, &post("/"));
    assert!(answer.contains("posts=2"), "{answer}");
    stack.stop().unwrap();
}

/// What the gateways have counted together: requests that they `refused`, sockets that were `closed`.
fn count(stack: &Stack, what: &str) -> usize {
    let of = |url: &String| {
        let answer = exchange_with(url, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        let (_, rest) = answer.split_once(&format!("{what}=")).unwrap();
        rest.split_once(';').unwrap().0.parse::<usize>().unwrap()
    };
    stack.env().gateway_ws_urls.iter().map(of).sum()
}

#[test]
fn handshake_with_ticket_is_not_repeated() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let attempts = |query: &str| {
        let before = count(&stack, "refused");
        let answer = get(&stack, &format!("/ws?user_id=doc{query}"), "X-Answer: 503\r\n");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        count(&stack, "refused") - before
    };
    assert_eq!(attempts(""), 2, "the other gateway is asked");
    for query in ["&ticket=abc", "&%74icket=abc", "&tic%6bet=abc&contact_id=pat"] {
        assert_eq!(attempts(query), 1, "{query}");
    }
    stack.stop().unwrap();
}

#[test]
fn access_log_has_path_without_query() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let log = stack.logs_dir().join("haproxy.log");
    let headers = "X-Answer: 503\r\nX-Request-Id: logged-1\r\nReferer: /?pat456\r\n";
    for path in ["/ws?contact_id=pat456&ticket=secret", "/chat/history?contact_id=pat456&token=secret"] {
        assert!(get(&stack, path, headers).starts_with("HTTP/1.1 503 "));
    }
    let lines = || std::fs::read_to_string(&log).unwrap();
    wait_until("both are logged", || lines().lines().filter(|line| line.contains("id=logged-1")).count() == 2);
    let lines = lines();
    for logged in [" 503 ", " GET /ws ", " GET /chat/history "] {
        assert!(lines.contains(logged), "{logged}: {lines}");
    }
    for hidden in ["secret", "pat456", "?"] {
        assert!(!lines.contains(hidden), "{hidden}: {lines}");
    }
    stack.stop().unwrap();
}

#[test]
fn end_of_socket_is_not_logged() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let mut socket = std::net::TcpStream::connect(stack.base_url().replace("http://localhost", "127.0.0.1")).unwrap();
    let handshake = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Answer: 101\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(handshake.as_bytes()).unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 101");
    drop(socket); // Without a close frame, as a phone that loses its network.
    wait_until("the gateway sees the end", || count(&stack, "closed") == 1);
    // What is logged later is there, so the end of the socket would be there as well.
    assert!(get(&stack, "/ws", "X-Answer: 503\r\n").starts_with("HTTP/1.1 503 "));
    let lines = || std::fs::read_to_string(stack.logs_dir().join("haproxy.log")).unwrap();
    wait_until("the refusal is logged", || lines().contains(" 503 "));
    assert!(!lines().contains(" 101 "), "{}", lines());
    stack.stop().unwrap();
}

#[test]
fn slow_requests_get_408_and_absent_servers_503() {
    let stack = Stack::start(with_fake_services()).unwrap();
    let slow = std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            exchange(&stack, "POST /chat/send HTTP/1.1\r\nHost: a\r\nX-Request-Id: slow\r\nContent-Length: 9\r\n\r\n{")
        });
        for url in stack.env().gateway_ws_urls {
            exchange_with(&url, "GET /do/fail-checks HTTP/1.1\r\nConnection: close\r\n\r\n");
        }
        wait_until("the gateways fail their checks", || get(&stack, "/ws", "").starts_with("HTTP/1.1 503"));
        let answer = get(&stack, "/ws", "X-Request-Id: absent\r\n");
        assert_problem(&answer, 503, "no_server_available");
        assert_eq!((header(&answer, "x-request-id"), header(&answer, "retry-after")), ("absent".into(), "2".into()));
        slow.join().unwrap()
    });
    assert_problem(&slow, 408, "request_timeout");
    assert_eq!(header(&slow, "x-request-id"), "slow");
    stack.stop().unwrap();
}
