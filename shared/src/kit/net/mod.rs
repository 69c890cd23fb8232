//! Listeners that survive a connection storm, and the accept loop of every port.

pub mod accept;
pub mod file_descriptors;
pub mod healthcheck;
pub mod plaintext_links;
pub mod tls;

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that may wait to be accepted. The usual 128 costs a client a second when a storm overflows it;
/// the kernel caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Listens on `address` (port 0: any free one).
///
/// Sockets accepted from it inherit `TCP_NODELAY`: a frame or an answer never waits for a full packet.
///
/// # Errors
/// When the address is not ours or taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accepted_sockets_have_nodelay() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(tokio::net::TcpStream::connect(address), listener.accept());
        client.unwrap();
        assert!(server.unwrap().0.nodelay().unwrap());
    }
}
