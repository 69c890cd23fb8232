//! HTTP by hand, where a client library is too well-behaved.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout_at};

/// Opens a connection to `http://HOST:PORT` or `ws://HOST:PORT/…`.
pub async fn connect(url: &str) -> TcpStream {
    let rest = url.split("://").nth(1).expect("a URL");
    TcpStream::connect(rest.split('/').next().expect("a host")).await.expect("the port is open")
}

/// Sends `request` and reads until the server closes.
pub async fn exchange(url: &str, request: &[u8]) -> String {
    let mut tcp = connect(url).await;
    tcp.write_all(request).await.unwrap();
    let answer = read_to_end(&mut tcp, Instant::now() + crate::WAIT_TIMEOUT).await;
    answer.unwrap_or_else(|| {
        panic!(
            "the server neither answers nor closes: {:?}",
            String::from_utf8_lossy(&request[..request.len().min(80)])
        )
    })
}

/// Sends `start`, then one byte of `rest` every half a second, until the server answers and closes. Gives its answer, or
/// `None` when it lets itself be kept busy for longer than `patience`.
pub async fn trickle(url: &str, start: &[u8], rest: &[u8], patience: Duration) -> Option<String> {
    let deadline = Instant::now() + patience;
    let (mut reader, mut writer) = connect(url).await.into_split();
    writer.write_all(start).await.unwrap();
    let rest = rest.to_vec();
    let dripping = tokio::spawn(async move {
        let mut beat = interval(Duration::from_millis(500));
        for byte in rest.iter().cycle() {
            beat.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    });
    let answer = read_to_end(&mut reader, deadline).await;
    dripping.abort();
    answer
}

async fn read_to_end(tcp: &mut (impl AsyncReadExt + Unpin), deadline: Instant) -> Option<String> {
    let mut bytes = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            match tcp.read(&mut buffer).await {
                // A reset is an end, too: what came before it counts.
                Ok(0) | Err(_) => return,
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            }
        }
    };
    timeout_at(deadline, reading).await.ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
