//! Clients that send too much, send invalid frames, or do not read.

use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, doctor, http, patient, service};

#[tokio::test]
async fn invalid_frames_get_error_without_close() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    for (text, cause) in [
        ("hunter2", "malformed"),
        (r#"{"type":"hunter2"}"#, "unknown_type"),
        (r#"{"type":"read","message_ids":["hunter2"]}"#, "invalid_uuid"),
        (r#"{"type":"auth","token":"hunter2"}"#, "token_malformed"),
    ] {
        let answer = client.ask(text).await;
        assert_eq!(answer["type"], "error");
        assert_eq!(answer["cause"], cause);
        assert!(!answer.to_string().contains("hunter2"));
    }
    client.ws.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(client.frame().await["code"], "malformed");
    assert_eq!(client.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test]
async fn oversized_frame_closes_with_1009() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let fits = format!(r#"{{"type":"ping"{}}}"#, " ".repeat(65_536 - 15));
    assert_eq!(fits.len(), 65_536);
    assert_eq!(client.ask(&fits).await["type"], "pong");
    client.send(&"x".repeat(65_537)).await;
    assert_eq!(client.close_frame().await, (1009, "frame_too_large".to_owned()));
}

#[tokio::test]
async fn invalid_utf8_closes_with_1007() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    // A masked text frame with the byte 0xff; the mask is zero.
    client.ws.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    assert_eq!(client.close_frame().await, (1007, "invalid_utf8".to_owned()));
}

#[tokio::test]
async fn protocol_violation_closes_with_1002() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    // Without a mask.
    client.ws.get_mut().write_all(&[0x81, 0x01, b'x']).await.unwrap();
    assert_eq!(client.close_frame().await, (1002, "protocol_error".to_owned()));
}

#[tokio::test]
async fn slow_client_is_closed_alone() {
    const MESSAGES: usize = 600;
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("OUTBOUND_QUEUE_BYTES", "262144")]).await;
    let mut publisher = redis.publisher().await;
    publisher.entries = 10;
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4096).unwrap();
    let tcp = tcp.connect(gateway.address).await.unwrap();
    let mut slow = Client::over(tcp, QUERY, &doctor()).await.unwrap();
    let (mut fast, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let text = "x".repeat(32 * 1024);
    for _ in 0..MESSAGES {
        publisher.message(&channel(), "user:doc123", &text).await;
        assert_eq!(fast.frame().await["type"], "message");
    }
    // About 20 MB were sent. The client gets what was on its way, in order, and then the close frame, if it reads
    // before the gateway's timeout.
    let mut got = 0;
    loop {
        match slow.message().await {
            Some(Ok(Message::Close(frame))) => {
                assert_eq!(u16::from(frame.unwrap().code), 4408);
                break;
            }
            Some(Ok(Message::Text(_))) => got += 1,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break,
        }
    }
    assert!(got < MESSAGES, "nothing was held back");
    publisher.message(&channel(), "user:doc123", "still here").await;
    assert_eq!(fast.frame().await["message"]["content"], "still here");
}

#[tokio::test]
async fn idle_client_is_closed() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("HEARTBEAT_SECONDS", "1"), ("IDLE_TIMEOUT_SECONDS", "2")]).await;
    let (mut silent, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut alive, _) = Client::open(gateway.address, QUERY, &patient()).await;
    // `alive` reads, so it answers Pings. `silent` does not.
    while alive.pings < 4 {
        if let Some(Ok(Message::Ping(_))) = alive.message().await {
            alive.pings += 1;
        }
    }
    assert_eq!(silent.close_frame().await, (4408, "client_silent".to_owned()));
    assert_eq!(alive.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_with_thousand_slow_clients() {
    const SOCKETS: usize = 1000;
    // What a socket may hold itself: its state, one write batch, and buffers. Queued frames are shared.
    const BYTES_EACH: usize = 128 * 1024;
    const QUEUE_BYTES: usize = 1 << 20;
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(
        &redis,
        &[
            ("OUTBOUND_QUEUE_BYTES", &QUEUE_BYTES.to_string()),
            ("MAX_SOCKETS_PER_PARTICIPANT", "0"),
            ("HANDSHAKES_PER_PARTICIPANT_PER_SECOND", "0"),
        ],
    )
    .await;
    let mut publisher = redis.publisher().await;
    publisher.entries = 10;
    let mut stuck = Vec::new();
    for _ in 0..SOCKETS {
        let tcp = TcpSocket::new_v4().unwrap();
        tcp.set_recv_buffer_size(4096).unwrap();
        let tcp = tcp.connect(gateway.address).await.unwrap();
        stuck.push(Client::over(tcp, QUERY, &doctor()).await.unwrap());
    }
    let (mut reader, _) = Client::open(gateway.address, QUERY, &service()).await;
    let before = gateway.memory_bytes();
    let (text, mut most, mut sent) = ("x".repeat(8000), 0, 0);
    while gateway.metric(r#"ehr_chat_gateway_sockets_closed_total{code="4408"}"#).await < SOCKETS {
        for _ in 0..20 {
            publisher.message(&channel(), "contact:pat456", &text).await;
            assert_eq!(reader.frame().await["type"], "message");
            sent += text.len();
        }
        most = most.max(gateway.memory_bytes());
    }
    let grown = most.saturating_sub(before);
    assert!(grown < SOCKETS * BYTES_EACH, "{grown} bytes more for {SOCKETS} sockets, {sent} bytes sent to each");
    // The kernel's buffers are not in that figure. They must not take what the queue would reject.
    assert!(sent < QUEUE_BYTES * 3 / 2, "{sent} bytes went to each");
    assert_eq!(gateway.metric("ehr_chat_gateway_slow_clients_total").await, SOCKETS);
}

#[tokio::test]
async fn participant_over_socket_limit_is_closed_with_4429() {
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[("MAX_SOCKETS_PER_PARTICIPANT", "2")]).await;
    let (first, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (_second, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    // The handshake succeeds, and the close code gives the reason.
    let mut third = Client::try_open(gateway.address, QUERY, &doctor()).await.unwrap();
    assert_eq!(third.close_frame().await, (4429, "too_many_sockets".to_owned()));
    // Other participants are not affected, and a service token has no socket limit.
    let (_patient, _) = Client::open(gateway.address, QUERY, &patient()).await;
    for _ in 0..3 {
        let (_watcher, _) = Client::open(gateway.address, QUERY, &service()).await;
    }
    assert_eq!(gateway.metric(r#"ehr_chat_rate_limited_total{kind="sockets_of_participant"}"#).await, 1);
    assert_eq!(gateway.metric(r#"ehr_chat_gateway_sockets_closed_total{code="4429"}"#).await, 1);
    assert_eq!(gateway.metric(r#"ehr_chat_gateway_handshakes_total{outcome="too_many_sockets"}"#).await, 1);
    let open = gateway.metric("ehr_chat_gateway_sockets").await;
    drop(first);
    while gateway.metric("ehr_chat_gateway_sockets").await == open {}
    let (_fourth, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
    assert_eq!(ready["type"], "ready");
}

#[tokio::test]
async fn address_over_socket_limit_is_closed_with_4429() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("MAX_SOCKETS_PER_ADDRESS", "2")]).await;
    let (_first, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (_second, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let mut third = Client::try_open(gateway.address, QUERY, &service()).await.unwrap();
    assert_eq!(third.close_frame().await, (4429, "too_many_sockets".to_owned()));
}

async fn refused(address: std::net::SocketAddr, token: &str) -> (u16, String) {
    let request = format!(
        "GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let (status, head, body) = http(address, &request).await;
    assert!(body.contains("\"request_id\"") && !body.contains("eyJ"), "{body}");
    (status, head)
}

#[tokio::test]
async fn handshakes_over_rate_get_429_with_retry_after() {
    let redis = RedisServer::start();
    for settings in [
        // A burst is ten.
        &[("HANDSHAKES_PER_SECOND", "1")][..],
        &[("RATE_LIMIT_ADDRESS_PER_SECOND", "1"), ("RATE_LIMIT_ADDRESS_BURST", "10")],
    ] {
        let gateway = GatewayProcess::start(&redis, settings).await;
        let mut open = Vec::new();
        let error = loop {
            assert!(open.len() < 40, "no handshake is rejected");
            match Client::try_open(gateway.address, QUERY, &doctor()).await {
                Ok(client) => open.push(client),
                Err(error) => break error,
            }
        };
        assert!(open.len() >= 10, "{} were let in", open.len());
        let Error::Http(answer) = error else { panic!("{error}") };
        assert_eq!(answer.status().as_u16(), 429);
        assert!(String::from_utf8_lossy(answer.body().as_deref().unwrap()).contains(r#""code":"rate_limited""#));
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(gateway.metric(r#"ehr_chat_gateway_handshakes_total{outcome="rate_limited"}"#).await >= 1);
        // Load balancers probe health from one address all the time.
        for _ in 0..30 {
            assert_eq!(http(gateway.address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await.0, 200);
        }
    }
}

#[tokio::test]
async fn participant_handshake_limit_does_not_affect_others() {
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[]).await;
    let mut accepted = 0;
    // Each for another pair, as an attacker would fill Redis.
    let error = loop {
        let query = format!("location_id=loc1&user_id=doc123&contact_id=invented{accepted}");
        match Client::try_open(gateway.address, &query, &doctor()).await {
            Ok(_closed_at_once) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted < 10_000, "no handshake is rejected");
    };
    assert!(accepted >= 100, "{accepted} were let in");
    let Error::Http(answer) = error else { panic!("{error}") };
    assert_eq!(answer.status().as_u16(), 429);
    assert_eq!(answer.headers()["retry-after"], "1");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert!(gateway.metric(r#"ehr_chat_rate_limited_total{kind="handshakes_of_participant"}"#).await >= 1);
    let (_patient, _) = Client::open(gateway.address, QUERY, &patient()).await;
    let (_service, _) = Client::open(gateway.address, QUERY, &service()).await;
}

#[tokio::test]
async fn token_guessing_limit_does_not_affect_others() {
    let redis = RedisServer::start();
    let settings = [("RATE_LIMIT_FAILURES_PER_SECOND", "1"), ("RATE_LIMIT_FAILURES_BURST", "5")];
    let gateway = Gateway::start(&redis, &settings).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let (status, head) = refused(gateway.address, "eyJ.guess.x").await;
        assert_eq!(head.to_ascii_lowercase().contains("retry-after: 1"), status == 429, "{head}");
        statuses.push(status);
    }
    assert_eq!(statuses[..5], [401; 5]);
    assert!(statuses[5..].contains(&429), "{statuses:?}");
    // From the same address.
    let (_socket, ready) = Client::open(gateway.address, QUERY, &doctor()).await;
    assert_eq!(ready["type"], "ready");
}

#[tokio::test]
async fn frame_flood_is_dropped_then_closes_socket() {
    let redis = RedisServer::start();
    // A burst of a hundred; a thousand close the socket.
    let gateway = GatewayProcess::start(&redis, &[("MAX_FRAMES_PER_SECOND", "10")]).await;
    let (mut flood, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut other, _) = Client::open(gateway.address, QUERY, &patient()).await;
    for _ in 0..100 {
        assert_eq!(flood.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    }
    let mut last = flood.ask(r#"{"type":"ping"}"#).await;
    while last["type"] == "pong" {
        last = flood.ask(r#"{"type":"ping"}"#).await;
    }
    assert_eq!((&last["type"], &last["code"]), (&"error".into(), &"rate_limited".into()));
    for _ in 0..1100 {
        // It may be closed already.
        if flood.ws.send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
            break;
        }
    }
    assert_eq!(flood.close_frame().await, (1008, "rate_limited".to_owned()));
    assert_eq!(other.ask(r#"{"type":"ping"}"#).await["type"], "pong");
    assert!(gateway.metric(r#"ehr_chat_rate_limited_total{kind="frames"}"#).await > 100);
}

#[tokio::test]
async fn overlong_query_gets_414() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let request = format!(
        "GET /ws?{QUERY}&x={} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\n\r\n",
        "y".repeat(5000)
    );
    let (status, _, body) = http(gateway.address, &request).await;
    assert_eq!(status, 414, "{body}");
    assert!(body.contains(r#""code":"uri_too_long""#), "{body}");
}

/// A masked frame without a payload; the mask is zero.
fn empty(first: u8) -> [u8; 6] {
    [first, 0x80, 0, 0, 0, 0]
}

#[tokio::test]
async fn empty_frames_count_against_frame_limit() {
    const PONG: u8 = 0x8a;
    const PING: u8 = 0x89;
    const BEGINNING: u8 = 0x01;
    const CONTINUATION: u8 = 0x00;
    const TEXT: u8 = 0x81;
    let redis = RedisServer::start();
    // A burst of a hundred; a thousand close the socket.
    let gateway = Gateway::start(&redis, &[("MAX_FRAMES_PER_SECOND", "10")]).await;
    for (name, first, then) in
        [("Pongs", PONG, PONG), ("Pings", PING, PING), ("fragments", BEGINNING, CONTINUATION), ("texts", TEXT, TEXT)]
    {
        let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
        let flood: Vec<u8> = [empty(first)].into_iter().chain([empty(then); 2000]).flatten().collect();
        let tcp = client.ws.get_mut();
        // It may be closed before all is sent.
        let _cut = tcp.write_all(&flood).await;
        let (mut answers, mut bytes) = (Vec::new(), 0);
        let code = loop {
            match client.message().await {
                Some(Ok(Message::Close(Some(frame)))) => break u16::from(frame.code),
                Some(Ok(message)) => {
                    bytes += message.len() + 2;
                    answers.push(message);
                }
                other => panic!("{name}: expected a close frame, got {other:?}"),
            }
        };
        assert_eq!(code, 1008, "{name}");
        if first != TEXT {
            assert!(bytes <= flood.len(), "{name}: {bytes} bytes for {}", flood.len());
        }
    }
}

#[tokio::test]
async fn excess_pings_get_one_pong() {
    const PINGS: u8 = 200;
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("MAX_FRAMES_PER_SECOND", "10")]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let pings: Vec<u8> = (0..PINGS).flat_map(|n| [0x89, 0x81, 0, 0, 0, 0, n]).collect();
    client.ws.get_mut().write_all(&pings).await.unwrap();
    let mut pongs = Vec::new();
    while pongs.last() != Some(&(PINGS - 1)) {
        match client.message().await {
            Some(Ok(Message::Pong(payload))) => pongs.push(payload[0]),
            other => panic!("expected a Pong, got {other:?}"),
        }
    }
    assert_eq!(pongs[..100], (0..100).collect::<Vec<u8>>(), "those within the limit, each");
    assert!(pongs.len() < PINGS.into(), "{} answers", pongs.len());
    assert!(pongs.is_sorted());
}

#[tokio::test]
async fn slow_client_receives_4408_when_it_reads_again() {
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[("OUTBOUND_QUEUE_BYTES", "65536")]).await;
    let publisher = redis.publisher().await;
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4096).unwrap();
    let tcp = tcp.connect(gateway.address).await.unwrap();
    let mut slow = Client::over(tcp, QUERY, &doctor()).await.unwrap();
    let text = "x".repeat(8000);
    while gateway.metric(r#"ehr_chat_gateway_sockets_closed_total{code="4408"}"#).await == 0 {
        publisher.message(&channel(), "contact:pat456", &text).await;
    }
    // Longer than the close timeout of other sockets.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(slow.close_frame().await, (4408, "client_too_slow".to_owned()));
}
