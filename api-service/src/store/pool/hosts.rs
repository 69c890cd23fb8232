//! A URL with several servers, of which at most one is the primary.
//!
//! The driver tries them one after the other and waits for each as long as it takes. A server that accepts connections and says
//! nothing, because its machine stands still, would keep it from the others. So each server is asked apart here, the next one
//! after a head start, and the first that fits wins.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;
use tokio_postgres::{Config, Error};

use crate::store::error::is_access_mismatch;

/// How long one server is asked alone. A healthy one answers within milliseconds.
const HEAD_START: Duration = Duration::from_millis(500);

/// Connects to the first server that fits. It begins with the one that fitted last (`preferred`).
pub(super) async fn connect_any<T, F: Future<Output = Result<T, Error>>>(
    postgres: Config,
    preferred: &AtomicUsize,
    open: impl Fn(Config) -> F,
) -> Result<T, Error> {
    let servers = split(&postgres);
    let first = preferred.load(Ordering::Relaxed);
    let mut waiting: VecDeque<_> = servers.into_iter().enumerate().collect();
    waiting.rotate_left(first.min(waiting.len().saturating_sub(1)));
    let mut attempts = FuturesUnordered::new();
    let mut failure: Option<Error> = None;
    loop {
        if let Some((place, server)) = waiting.pop_front() {
            let attempt = open(server);
            attempts.push(async move { (place, attempt.await) });
        }
        tokio::select! {
            ended = attempts.next() => match ended {
                Some((place, Ok(connected))) => {
                    preferred.store(place, Ordering::Relaxed);
                    return Ok(connected);
                }
                // That a server is of the wrong kind says more than that another one is down.
                Some((_, Err(error))) => failure = failure.filter(is_access_mismatch).or(Some(error)),
                None => return match failure {
                    Some(error) => Err(error),
                    // The driver says what is wrong with the URL.
                    None => open(postgres).await,
                },
            },
            () = sleep(HEAD_START), if !waiting.is_empty() => {}
        }
    }
}

/// The same settings for each server alone; nothing when hosts, addresses and ports do not match.
fn split(postgres: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (postgres.get_hosts(), postgres.get_hostaddrs(), postgres.get_ports());
    let count = hosts.len().max(addresses.len());
    let fits = |length: usize| length == 0 || length == count;
    if !fits(hosts.len()) || !fits(addresses.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Vec::new();
    }
    let server = |place: usize| {
        let mut server = without_hosts(postgres);
        match hosts.get(place) {
            Some(tokio_postgres::config::Host::Tcp(name)) => drop(server.host(name)),
            #[cfg(unix)]
            Some(tokio_postgres::config::Host::Unix(path)) => drop(server.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(place) {
            server.hostaddr(*address);
        }
        if let Some(port) = ports.get(place).or_else(|| ports.first()) {
            server.port(*port);
        }
        server
    };
    (0..count).map(server).collect()
}

fn without_hosts(postgres: &Config) -> Config {
    let mut server = Config::new();
    server
        .ssl_mode(postgres.get_ssl_mode())
        .ssl_negotiation(postgres.get_ssl_negotiation())
        .keepalives(postgres.get_keepalives())
        .keepalives_idle(postgres.get_keepalives_idle())
        .target_session_attrs(postgres.get_target_session_attrs())
        .channel_binding(postgres.get_channel_binding())
        .load_balance_hosts(postgres.get_load_balance_hosts());
    if let Some(user) = postgres.get_user() {
        server.user(user);
    }
    if let Some(database) = postgres.get_dbname() {
        server.dbname(database);
    }
    if let Some(options) = postgres.get_options() {
        server.options(options);
    }
    if let Some(name) = postgres.get_application_name() {
        server.application_name(name);
    }
    if let Some(password) = postgres.get_password() {
        server.password(password);
    }
    if let Some(timeout) = postgres.get_connect_timeout() {
        server.connect_timeout(*timeout);
    }
    if let Some(timeout) = postgres.get_tcp_user_timeout() {
        server.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = postgres.get_keepalives_interval() {
        server.keepalives_interval(interval);
    }
    if let Some(retries) = postgres.get_keepalives_retries() {
        server.keepalives_retries(retries);
    }
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> Config {
        url.parse().unwrap()
    }

    #[test]
    fn each_server_keeps_every_setting() {
        let settings = "/d?sslmode=require&connect_timeout=3&keepalives_idle=7&keepalives_interval=5&keepalives_retries=2\
             &tcp_user_timeout=4&target_session_attrs=read-write&channel_binding=require&application_name=a&options=-c%20x%3Dy";
        let servers = split(&config(&format!("postgres://u:p@a:1,b:2{settings}")));
        assert_eq!(
            servers,
            [config(&format!("postgres://u:p@a:1{settings}")), config(&format!("postgres://u:p@b:2{settings}"))]
        );
        let by_address = split(&config("host=a,b hostaddr=127.0.0.1,::1 port=7 user=u"));
        assert_eq!(by_address[1], config("host=b hostaddr=::1 port=7 user=u"));
        let alone = config("postgres://u@h/d");
        assert_eq!(split(&alone), [alone]);
        assert!(split(&config("host=a,b,c port=1,2 user=u")).is_empty(), "the driver rejects it");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_server_delays_others_by_head_start() {
        let preferred = AtomicUsize::new(0);
        let asked = std::sync::Mutex::new(Vec::new());
        let open = |server: Config| {
            let port = server.get_ports()[0];
            asked.lock().unwrap().push(port);
            async move { if port == 1 { std::future::pending().await } else { Ok(port) } }
        };
        let servers = config("postgres://u@a:1,b:2/d");
        let began = tokio::time::Instant::now();
        assert_eq!(connect_any(servers.clone(), &preferred, open).await.unwrap(), 2);
        assert_eq!(began.elapsed(), HEAD_START);
        assert_eq!(connect_any(servers.clone(), &preferred, open).await.unwrap(), 2);
        assert_eq!(*asked.lock().unwrap(), [1, 2, 2], "the one that fitted is asked first from then on");
    }
}
