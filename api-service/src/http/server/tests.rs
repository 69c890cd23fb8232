use super::*;
use bytes::Bytes;
use poem::EndpointExt;
use poem::endpoint::make_sync;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

const TEST_TIMEOUT: Duration = Duration::from_secs(20);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

async fn start(connections: usize, head: Duration) -> Running {
    let timeouts = Timeouts { head, first: FIRST_BYTE_TIMEOUT, idle: IDLE_TIMEOUT, unread: TEST_TIMEOUT };
    start_with(connections, timeouts, "hello").await
}

async fn start_with(connections: usize, timeouts: Timeouts, answer: impl Into<Bytes>) -> Running {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = Server::new(listener, make_sync(move |_| answer.clone()).map_to_response(), connections);
    server.timeouts = timeouts;
    let (stop, stopped) = oneshot::channel();
    let stopped = async move { stopped.await.unwrap_or_default() };
    let ended = tokio::spawn(server.run(stopped, Duration::from_millis(300)));
    Running { address, stop, ended }
}

async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).ends_with(end) {
            let mut buffer = [0; 1024];
            match tcp.read(&mut buffer).await.unwrap() {
                0 => break,
                count => read.extend_from_slice(&buffer[..count]),
            }
        }
    };
    timeout(TEST_TIMEOUT, reading).await.expect("no answer");
    String::from_utf8(read).unwrap()
}

async fn read_to_end(tcp: &mut TcpStream) -> String {
    read_until(tcp, "\0").await
}

#[tokio::test]
async fn slow_header_returns_408() {
    let server = start(10, Duration::from_millis(200)).await;
    for requests_before in 0..2 {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        for _ in 0..requests_before {
            tcp.write_all(REQUEST).await.unwrap();
            read_until(&mut tcp, "hello").await;
        }
        let began = Instant::now();
        tcp.write_all(&REQUEST[..REQUEST.len() - 2]).await.unwrap();
        let answer = read_to_end(&mut tcp).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"), "{answer}");
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
}

#[tokio::test]
async fn idle_connection_is_not_a_slow_header() {
    let server = start(10, Duration::from_millis(50)).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        tcp.write_all(REQUEST).await.unwrap();
        assert!(read_until(&mut tcp, "hello").await.starts_with("HTTP/1.1 200 "));
        // Longer than the header timeout: the test needs time to pass.
        sleep(Duration::from_millis(150)).await;
    }
}

#[tokio::test]
async fn idle_connection_closes_at_timeout() {
    let idle = Duration::from_millis(200);
    let timeouts = Timeouts { head: TEST_TIMEOUT, first: idle, idle, unread: TEST_TIMEOUT };
    let server = start_with(10, timeouts, "hello").await;
    for requests in 0..2 {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        for _ in 0..requests {
            tcp.write_all(REQUEST).await.unwrap();
            read_until(&mut tcp, "hello").await;
        }
        let began = Instant::now();
        assert_eq!(read_to_end(&mut tcp).await, "");
        // Milliseconds count from the accept, slightly before this line.
        assert!(began.elapsed() >= idle / 2, "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn silent_connection_closes_earlier_than_idle_one() {
    let first = Duration::from_millis(200);
    let server =
        start_with(10, Timeouts { head: TEST_TIMEOUT, first, idle: IDLE_TIMEOUT, unread: TEST_TIMEOUT }, "hello").await;
    let mut spoken = TcpStream::connect(server.address).await.unwrap();
    sleep(Duration::from_millis(5)).await;
    spoken.write_all(REQUEST).await.unwrap();
    read_until(&mut spoken, "hello").await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(read_to_end(&mut silent).await, "");
    spoken.write_all(REQUEST).await.unwrap();
    assert!(read_until(&mut spoken, "hello").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn connections_beyond_limit_wait() {
    let server = start(1, TEST_TIMEOUT).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(REQUEST).await.unwrap();
    read_until(&mut first, "hello").await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    let mut byte = [0];
    assert!(timeout(Duration::from_millis(100), second.read(&mut byte)).await.is_err(), "it is not served yet");
    drop(first);
    assert!(read_until(&mut second, "hello").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn oversized_header_returns_431() {
    let server = start(10, TEST_TIMEOUT).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEADER_BYTES));
    tcp.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut tcp).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn invalid_http_returns_400_problem() {
    let server = start(10, TEST_TIMEOUT).await;
    for garbage in [
        "GARBAGE\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
    ] {
        for requests_before in 0..2 {
            let mut tcp = TcpStream::connect(server.address).await.unwrap();
            for _ in 0..requests_before {
                tcp.write_all(REQUEST).await.unwrap();
                read_until(&mut tcp, "hello").await;
            }
            tcp.write_all(garbage.as_bytes()).await.unwrap();
            let answer = read_to_end(&mut tcp).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("application/problem+json"), "{answer}");
            assert!(answer.contains("x-request-id: "), "{answer}");
        }
    }
}

/// More bytes than the kernel buffers per connection.
fn large_answer() -> Bytes {
    Bytes::from(vec![b'x'; 64 * 1024 * 1024])
}

#[tokio::test]
async fn unread_response_is_aborted() {
    let unread = Duration::from_millis(200);
    let server =
        start_with(1, Timeouts { head: TEST_TIMEOUT, first: TEST_TIMEOUT, idle: TEST_TIMEOUT, unread }, large_answer())
            .await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(REQUEST).await.unwrap();
    // The server has one slot: this connection is served after the other has ended.
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(REQUEST).await.unwrap();
    timeout(TEST_TIMEOUT, second.read_exact(&mut [0; 12])).await.expect("the first was cut").unwrap();
    drop(first);
}

#[tokio::test]
async fn slowly_read_response_is_not_idle() {
    let (idle, answer) = (Duration::from_millis(200), large_answer());
    let server = start_with(
        10,
        Timeouts { head: TEST_TIMEOUT, first: TEST_TIMEOUT, idle, unread: TEST_TIMEOUT },
        answer.clone(),
    )
    .await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(REQUEST).await.unwrap();
    let mut buffer = vec![0; 1024 * 1024];
    let mut read = 0;
    while read < answer.len() {
        if read < 4 * buffer.len() {
            // The test needs time to pass.
            sleep(idle * 2).await;
        }
        let more = timeout(TEST_TIMEOUT, tcp.read(&mut buffer)).await.expect("more comes").unwrap();
        assert!(more > 0, "cut after {read} bytes");
        read += more;
    }
}

#[tokio::test]
async fn stop_closes_idle_connections_and_waits_for_others() {
    for leaves_half_a_request in [false, true] {
        let server = start(10, TEST_TIMEOUT).await;
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(REQUEST).await.unwrap();
        read_until(&mut tcp, "hello").await;
        if leaves_half_a_request {
            tcp.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        }
        server.stop.send(()).unwrap();
        timeout(TEST_TIMEOUT, server.ended).await.expect("it ends").unwrap();
        assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
    }
}
