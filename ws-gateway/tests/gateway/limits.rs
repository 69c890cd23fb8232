//! Clients that send too much, send garbage, or do not read.

use futures_util::SinkExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Gateway, GatewayProcess, QUERY, RedisServer, channel, doctor, patient, service};

#[tokio::test]
async fn bad_frames_are_answered_and_the_socket_stays() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    for (text, code) in [
        ("hunter2", "malformed"),
        (r#"{"type":"hunter2"}"#, "unknown_type"),
        (r#"{"type":"read","message_ids":["hunter2"]}"#, "invalid"),
        (r#"{"type":"auth","token":"hunter2"}"#, "unauthorized"),
    ] {
        let answer = client.ask(text).await;
        assert_eq!(answer["type"], "error");
        assert_eq!(answer["code"], code);
        assert!(!answer.to_string().contains("hunter2"));
    }
    client.ws.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(client.frame().await["code"], "malformed");
    assert_eq!(client.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test]
async fn a_frame_that_is_too_large_closes_with_1009() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let fits = format!(r#"{{"type":"ping"{}}}"#, " ".repeat(65_536 - 15));
    assert_eq!(fits.len(), 65_536);
    assert_eq!(client.ask(&fits).await["type"], "pong");
    client.send(&"x".repeat(65_537)).await;
    assert_eq!(client.closed().await.0, 1009);
}

#[tokio::test]
async fn text_that_is_not_utf8_closes_with_1007() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    // A masked text frame of one byte, 0xff (the mask is zero).
    client.ws.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    assert_eq!(client.closed().await.0, 1007);
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_closes_with_1002() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let (mut client, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    // Not masked.
    client.ws.get_mut().write_all(&[0x81, 0x01, b'x']).await.unwrap();
    assert_eq!(client.closed().await.0, 1002);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_alone() {
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
    // Some 20 MB were sent. It gets what was on the way, in order, and then the end; with its reason, when it reads again
    // before the gateway has given up on telling it.
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
async fn a_client_that_falls_silent_is_closed() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("HEARTBEAT_SECONDS", "1"), ("IDLE_TIMEOUT_SECONDS", "2")]).await;
    let (mut silent, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut alive, _) = Client::open(gateway.address, QUERY, &patient()).await;
    // `alive` reads, so it answers Pings for longer than the limit; `silent` does not.
    while alive.pings < 4 {
        if let Some(Ok(Message::Ping(_))) = alive.message().await {
            alive.pings += 1;
        }
    }
    assert_eq!(silent.closed().await.0, 4408);
    assert_eq!(alive.ask(r#"{"type":"ping"}"#).await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_under_a_thousand_sockets_that_stop_reading() {
    const SOCKETS: usize = 1000;
    // What a socket may hold of its own: its state, one round of writing, and the growth of buffers. What waits is shared.
    const BYTES_EACH: usize = 128 * 1024;
    const QUEUE_BYTES: usize = 1 << 20;
    let redis = RedisServer::start();
    let gateway = GatewayProcess::start(&redis, &[("OUTBOUND_QUEUE_BYTES", &QUEUE_BYTES.to_string())]).await;
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
    while gateway.metric(r#"gateway_closed_total{code="4408"}"#).await < SOCKETS {
        for _ in 0..20 {
            publisher.message(&channel(), "contact:pat456", &text).await;
            assert_eq!(reader.frame().await["type"], "message");
            sent += text.len();
        }
        most = most.max(gateway.memory_bytes());
    }
    let grown = most.saturating_sub(before);
    assert!(grown < SOCKETS * BYTES_EACH, "{grown} bytes more for {SOCKETS} sockets, {sent} bytes sent to each");
    // The kernel, whose memory is not in that figure, did not take what the queue would not.
    assert!(sent < QUEUE_BYTES * 3 / 2, "{sent} bytes went to each");
    assert_eq!(gateway.metric("gateway_outbound_overflows_total").await, SOCKETS);
}
