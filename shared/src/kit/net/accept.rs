//! The accept loop of every port.
//!
//! The number of connections is bounded: without a permit the loop does not accept, and further clients wait in the kernel's
//! queue. A failed accept is retried after a delay. Each connection is served in a task of its own, which a tracker knows.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After an accept that failed for lack of descriptors or memory.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Names of the counters of a port.
#[derive(Debug, Clone, Copy)]
pub struct AcceptMetrics {
    /// Connections that waited because all permits were taken; not every port counts them.
    pub throttled: Option<&'static str>,
    /// Accepts that failed on this side.
    pub errors: &'static str,
}

/// A port whose connections are accepted.
pub struct AcceptLoop {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    metrics: AcceptMetrics,
    max_unsent_bytes: Option<u32>,
}

/// A connection, and its share of the limit.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub tcp: TcpStream,
    /// The address of its other end.
    pub peer: SocketAddr,
    /// Counts against the limit until it is dropped.
    pub permit: OwnedSemaphorePermit,
}

/// How the connections of [`AcceptLoop::run_until`] end.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// All that must end before the port has ended.
    pub tasks: TaskTracker,
    /// No further request is accepted; open ones may finish.
    pub stopping: CancellationToken,
    /// Open requests are given up.
    pub late: CancellationToken,
}

impl AcceptLoop {
    /// Accepts from `listener` while there are permits.
    #[must_use]
    pub fn new(listener: TcpListener, permits: Arc<Semaphore>, metrics: AcceptMetrics) -> Self {
        Self { listener, permits, metrics, max_unsent_bytes: None }
    }

    /// Limits the kernel's send buffer of each connection. Otherwise it would take megabytes from a client that does not read,
    /// and report them as sent.
    #[must_use]
    pub fn with_max_unsent(self, bytes: u32) -> Self {
        Self { max_unsent_bytes: Some(bytes), ..self }
    }

    /// The same with other counters.
    #[must_use]
    pub fn with_metrics(self, metrics: AcceptMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Serves each connection in a task of `tasks`, until this future is dropped. The tasks then go on.
    pub async fn run<F: Future<Output = ()> + Send + 'static>(
        &self,
        tasks: &TaskTracker,
        serve: impl Fn(Accepted) -> F,
    ) {
        while let Some(accepted) = self.next().await {
            tasks.spawn(serve(accepted));
        }
    }

    /// Serves connections until `stop`. Then the listener is closed and the connections may finish, for at most `drain_timeout`.
    pub async fn run_until<F: Future<Output = ()> + Send + 'static>(
        self,
        stop: impl Future<Output = ()>,
        drain_timeout: Duration,
        serve: impl Fn(Accepted, &Drain) -> F,
    ) {
        let (drain, mut stop) = (Drain::default(), pin!(stop));
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.next() => accepted,
            };
            let Some(accepted) = accepted else { break };
            let (serving, late) = (serve(accepted, &drain), drain.late.clone());
            drain.tasks.spawn(async move {
                tokio::select! {
                    () = serving => {}
                    () = late.cancelled() => {}
                }
            });
        }
        drop(self);
        drain.stopping.cancel();
        drain.tasks.close();
        if timeout(drain_timeout, drain.tasks.wait()).await.is_err() {
            drain.late.cancel();
            drain.tasks.wait().await;
        }
    }

    /// The next connection. `None` when no further one may be accepted, because the semaphore was closed.
    async fn next(&self) -> Option<Accepted> {
        loop {
            let permit = self.acquire_permit().await?;
            match self.listener.accept().await {
                Ok((tcp, peer)) => {
                    self.limit_unsent(&tcp);
                    return Some(Accepted { tcp, peer, permit });
                }
                Err(error) if is_peer_error(&error) => {}
                Err(error) => {
                    metrics::counter!(self.metrics.errors).increment(1);
                    let port = self.listener.local_addr().map_or(0, |address| address.port());
                    tracing::error!(%error, port, "accept failed");
                    // Without a delay this would spin, because the connection is still in the queue.
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    async fn acquire_permit(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Some(permit);
        }
        if let Some(throttled) = self.metrics.throttled {
            metrics::counter!(throttled).increment(1);
        }
        self.permits.clone().acquire_owned().await.ok()
    }

    fn limit_unsent(&self, tcp: &TcpStream) {
        if let Some(bytes) = self.max_unsent_bytes
            && let Err(error) = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(bytes)
        {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT not set");
        }
    }
}

/// Whether the connection failed, and not this service: the next one can be accepted at once.
fn is_peer_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    const METRICS: AcceptMetrics = AcceptMetrics { throttled: Some("throttled_total"), errors: "errors_total" };

    async fn accept_loop(permits: usize) -> (AcceptLoop, SocketAddr) {
        let listener = crate::kit::net::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        (AcceptLoop::new(listener, Arc::new(Semaphore::new(permits)), METRICS), address)
    }

    /// Says hello, and goodbye when the client has answered.
    async fn greet(mut accepted: Accepted) {
        accepted.tcp.write_all(b"hello").await.unwrap();
        let _ = accepted.tcp.read_u8().await;
        let _ = accepted.tcp.write_all(b"bye").await;
    }

    async fn greeted(address: SocketAddr) -> TcpStream {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let mut hello = [0; 5];
        tcp.read_exact(&mut hello).await.unwrap();
        tcp
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let (port, address) = accept_loop(1).await;
        let _clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let first = port.next().await.unwrap();
        let mut second = Box::pin(port.next());
        assert!(poll!(second.as_mut()).is_pending());
        assert!(recorder.handle().render().contains("throttled_total 1"));
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test]
    async fn dropped_loop_leaves_its_connections_open() {
        let ((port, address), tasks) = (accept_loop(2).await, TaskTracker::new());
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tasks.clone();
        let accepting = tokio::spawn(async move {
            tokio::select! {
                () = port.run(&serving, greet) => {}
                _ = stopped => {}
            }
        });
        let mut client = greeted(address).await;
        stop.send(()).unwrap();
        accepting.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
        client.write_all(b"!").await.unwrap();
        let mut bye = String::new();
        client.read_to_string(&mut bye).await.unwrap();
        assert_eq!(bye, "bye");
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn stopped_loop_waits_for_its_connections() {
        let (port, address) = accept_loop(2).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let running = tokio::spawn(port.run_until(stopped, Duration::from_secs(60), |accepted, drain| {
            let stopping = drain.stopping.clone();
            async move {
                let mut tcp = accepted.tcp;
                tcp.write_all(b"hello").await.unwrap();
                stopping.cancelled().await;
                tcp.write_all(b"bye").await.unwrap();
            }
        }));
        let mut client = greeted(address).await;
        stop.send(()).unwrap();
        let mut bye = String::new();
        client.read_to_string(&mut bye).await.unwrap();
        assert_eq!(bye, "bye");
        running.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
    }

    #[tokio::test]
    async fn drain_ends_at_its_deadline() {
        let (port, address) = accept_loop(2).await;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { stopped.await.unwrap_or_default() };
        let running = tokio::spawn(port.run_until(stopped, Duration::from_millis(1), |accepted, _| greet(accepted)));
        let mut client = greeted(address).await;
        stop.send(()).unwrap();
        running.await.unwrap();
        let mut rest = Vec::new();
        assert!(client.read_to_end(&mut rest).await.is_err() || rest.is_empty(), "cut off without an answer");
    }

    #[test]
    fn only_errors_of_this_side_delay_the_loop() {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
        for kind in [ConnectionAborted, ConnectionRefused, ConnectionReset] {
            assert!(is_peer_error(&kind.into()), "{kind}");
        }
        // No descriptors, as the kernel says it.
        assert!(!is_peer_error(&io::Error::from_raw_os_error(24)));
        assert!(!is_peer_error(&io::ErrorKind::OutOfMemory.into()));
    }
}
