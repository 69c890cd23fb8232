//! A network between two parts that can fall silent: bytes are accepted and do not arrive, without an error.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

const CONNECT: Duration = Duration::from_secs(5);

/// What becomes of connections that lived through a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterPartition {
    /// What was held back arrives: the network was down briefly, and TCP retransmitted.
    Resume,
    /// They are reset: a router has lost their state, and says so.
    Reset,
    /// They stay silent for ever; only new ones work: a router has lost their state, and says nothing.
    Forget,
}

/// A TCP proxy in front of one address.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    state: watch::Sender<ProxyState>,
    accepting: AbortHandle,
}

#[derive(Debug, Clone, Copy, Default)]
struct ProxyState {
    silent: bool,
    /// How long everything that clients say is held back; what they say meanwhile leaves together.
    delay: Duration,
    /// ObservedCounts silences. A connection is of the age in which it was accepted.
    age: u64,
    /// Connections of an earlier age than this are reset …
    reset_before: u64,
    /// … or are mute for ever.
    forgotten_before: u64,
}

impl FaultProxy {
    /// A link to where `url` leads.
    pub async fn to(url: &str) -> Result<Self> {
        let (_, rest) = url.rsplit_once('@').or_else(|| url.split_once("://")).context("a URL with a host")?;
        Self::at("127.0.0.1:0", rest.split('/').next().unwrap_or_default()).await
    }

    /// A link from one address to another.
    pub async fn at(address: &str, upstream: &str) -> Result<Self> {
        let upstream: SocketAddr = upstream.parse().context("an address")?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let port = listener.local_addr()?.port();
        let (state, seen) = watch::channel(ProxyState::default());
        let accepting = tokio::spawn(accept(listener, upstream, seen)).abort_handle();
        Ok(Self { port, state, accepting })
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `url`, by way of this link.
    pub fn through(&self, url: &str) -> Result<String> {
        let start = url.rfind('@').map(|at| at + 1).or_else(|| url.find("://").map(|at| at + 3));
        let (before, rest) = url.split_at(start.context("a URL with a host")?);
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        Ok(format!("{before}127.0.0.1:{}{path}", self.port))
    }

    /// Nothing arrives any more, in either direction, and new connections get no answer.
    pub fn silence(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// What clients say arrives this much later from now on, one piece after the other.
    pub fn slow(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Ends every connection that there is.
    pub fn reset(&self) {
        self.state.send_modify(|state| {
            state.age += 1;
            state.reset_before = state.age;
        });
    }

    /// New connections work again.
    pub fn restore(&self, after: AfterPartition) {
        self.state.send_modify(|state| {
            state.silent = false;
            state.age += 1;
            match after {
                AfterPartition::Resume => {}
                AfterPartition::Reset => state.reset_before = state.age,
                AfterPartition::Forget => state.forgotten_before = state.age,
            }
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, seen: watch::Receiver<ProxyState>) {
    while let Ok((near, _)) = listener.accept().await {
        let age = seen.borrow().age;
        tokio::spawn(carry(near, upstream, ConnectionView { seen: seen.clone(), age }));
    }
}

/// The state, as one connection sees it.
#[derive(Clone)]
struct ConnectionView {
    seen: watch::Receiver<ProxyState>,
    age: u64,
}

impl ConnectionView {
    async fn clears(&mut self) -> bool {
        self.seen.wait_for(|state| !state.silent).await.is_ok()
    }

    /// Ends with the link, too.
    async fn resets(&mut self) {
        let age = self.age;
        let _gone = self.seen.wait_for(|state| age < state.reset_before).await;
    }

    /// Waits as long as what a client says is held back.
    async fn delays(&self) {
        let delay = self.seen.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
    }

    fn has_forgotten(&self) -> bool {
        self.age < self.seen.borrow().forgotten_before
    }
}

async fn carry(mut near: TcpStream, upstream: SocketAddr, sky: ConnectionView) {
    let (mut out, mut back, mut reset) = (sky.clone(), sky.clone(), sky);
    let mut far = None;
    let conversing = async {
        if !out.clears().await {
            return;
        }
        let Ok(Ok(connected)) = timeout(CONNECT, TcpStream::connect(upstream)).await else { return };
        let _ = near.set_nodelay(true);
        let _ = connected.set_nodelay(true);
        let far = far.insert(connected);
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        // One direction's end is the connection's end: no peer here half-closes.
        tokio::select! {
            _ = pump(near_read, far_write, &mut out, Direction::Out) => {}
            _ = pump(far_read, near_write, &mut back, Direction::Back) => {}
        }
    };
    let was_reset = tokio::select! {
        () = conversing => false,
        () = reset.resets() => true,
    };
    if was_reset || far.is_none() {
        let _ = near.set_zero_linger();
        if let Some(far) = far {
            let _ = far.set_zero_linger();
        }
    }
}

/// From the client to the server, or from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    Back,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    sky: &mut ConnectionView,
    direction: Direction,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // Nothing is read in a silence: what was sent waits, as it would for TCP's next attempt.
        if !sky.clears().await {
            return Ok(());
        }
        let read = from.read(&mut buffer).await?;
        if direction == Direction::Out {
            sky.delays().await;
        }
        if !sky.clears().await {
            return Ok(());
        }
        if read == 0 {
            return Ok(());
        }
        if !sky.has_forgotten() {
            to.write_all(&buffer[..read]).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (FaultProxy, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://user:secret@{}/0", server.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = tcp.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let link = FaultProxy::to(&url).await.unwrap();
        assert_eq!(link.through(&url).unwrap(), format!("redis://user:secret@127.0.0.1:{}/0", link.port));
        let tcp = connect(&link).await;
        (link, tcp)
    }

    async fn connect(link: &FaultProxy) -> TcpStream {
        TcpStream::connect(("127.0.0.1", link.port)).await.unwrap()
    }

    async fn hears(tcp: &mut TcpStream, expected: &[u8]) -> bool {
        let mut received = vec![0; expected.len()];
        let reading = timeout(Duration::from_millis(300), tcp.read_exact(&mut received)).await;
        matches!(reading, Ok(Ok(_))) && received == expected
    }

    #[tokio::test]
    async fn partition_that_heals_loses_nothing() {
        let (link, mut tcp) = echo().await;
        tcp.write_all(b"one").await.unwrap();
        assert!(hears(&mut tcp, b"one").await);
        link.silence();
        tcp.write_all(b"two").await.unwrap();
        assert!(!hears(&mut tcp, b"two").await);
        let mut newer = connect(&link).await;
        newer.write_all(b"new").await.unwrap();
        assert!(!hears(&mut newer, b"new").await);
        link.restore(AfterPartition::Resume);
        assert!(hears(&mut tcp, b"two").await && hears(&mut newer, b"new").await);
    }

    #[tokio::test]
    async fn slow_proxy_delays_and_loses_nothing() {
        let (link, mut tcp) = echo().await;
        let delay = Duration::from_millis(600);
        link.slow(delay);
        let output = tokio::time::Instant::now();
        tcp.write_all(b"one").await.unwrap();
        let mut received = [0; 3];
        tcp.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"one");
        assert!(output.elapsed() >= delay);
        link.slow(Duration::ZERO);
        tcp.write_all(b"two").await.unwrap();
        assert!(hears(&mut tcp, b"two").await);
        link.reset();
        assert!(tcp.read_u8().await.is_err());
    }

    #[tokio::test]
    async fn partition_can_reset_or_mute_connections() {
        let (link, mut tcp) = echo().await;
        // A connection is of the age in which it is accepted: this one has to be, before the silence.
        tcp.write_all(b"zero").await.unwrap();
        assert!(hears(&mut tcp, b"zero").await);
        link.silence();
        link.restore(AfterPartition::Forget);
        tcp.write_all(b"one").await.unwrap();
        assert!(!hears(&mut tcp, b"one").await);
        let mut newer = connect(&link).await;
        newer.write_all(b"new").await.unwrap();
        assert!(hears(&mut newer, b"new").await);

        link.silence();
        link.restore(AfterPartition::Reset);
        assert!(newer.read_u8().await.is_err());
        let mut newest = connect(&link).await;
        newest.write_all(b"newest").await.unwrap();
        assert!(hears(&mut newest, b"newest").await);
    }
}
