//! Whether a service lives, asked from beside it: for container images, which hold no other program that could ask.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// For the connection, the question and the answer each.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks `/healthz` of the admin port. Not `/readyz`: a service that waits for PostgreSQL or Redis must not be killed for it.
///
/// # Errors
/// When the service does not answer in time, or not with 200.
pub fn probe(admin: SocketAddr) -> io::Result<()> {
    let mut tcp = TcpStream::connect_timeout(&connectable_address(admin), PROBE_TIMEOUT)?;
    tcp.set_read_timeout(Some(PROBE_TIMEOUT))?;
    tcp.set_write_timeout(Some(PROBE_TIMEOUT))?;
    tcp.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; b"HTTP/1.1 200 ".len()];
    tcp.read_exact(&mut status)?;
    match &status {
        b"HTTP/1.1 200 " => Ok(()),
        _ => Err(io::Error::other("the service answers, but is not well")),
    }
}

/// "Every address" is one to listen on, and none to connect to.
fn connectable_address(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(_) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A service that answers one question with this.
    fn service(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            assert!(tcp.read(&mut asked).unwrap() > 0);
            tcp.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn probe_accepts_only_status_200() {
        assert!(probe(service(b"HTTP/1.1 200 OK\r\n\r\n")).is_ok());
        assert!(probe(service(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")).is_err());
        assert!(probe(service(b"HTTP")).is_err());
    }

    #[test]
    fn probe_fails_without_a_server() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(probe(address).is_err());
    }

    #[test]
    fn wildcard_address_is_probed_on_loopback() {
        assert_eq!(connectable_address("0.0.0.0:9081".parse().unwrap()), "127.0.0.1:9081".parse().unwrap());
        assert_eq!(connectable_address("[::]:9081".parse().unwrap()), "[::1]:9081".parse().unwrap());
        assert_eq!(connectable_address("10.0.0.7:9081".parse().unwrap()), "10.0.0.7:9081".parse().unwrap());
    }
}
