//! Free TCP ports on the loopback address.
//! Refuses the kernel's ephemeral range: a port there can become some client's source port between
//! the moment a child dies and the moment it is started again.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

use crate::secret::random_bytes;

/// Below this, ports belong to well-known services; above `LAST_PORT`, to the kernel's clients.
const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;

/// Hands out every port once.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    taken: HashSet<u16>,
}

impl Ports {
    /// A port that nothing listens on. Drawn at random, so that stacks that start at the same time
    /// do not race for the same one.
    pub(crate) fn free(&mut self) -> Result<u16> {
        for _ in 0..200 {
            let draw = u16::from_ne_bytes(random_bytes()?);
            let port = FIRST_PORT + draw % (LAST_PORT - FIRST_PORT);
            if !self.taken.contains(&port) && is_free((Ipv4Addr::LOCALHOST, port).into()) {
                self.taken.insert(port);
                return Ok(port);
            }
        }
        bail!("no free TCP port found between {FIRST_PORT} and {LAST_PORT}")
    }
}

/// True when a server could listen there now.
fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// Fails when something listens on one of these addresses, and says how to move.
pub(crate) fn ensure_free(addresses: &[SocketAddr]) -> Result<()> {
    for address in addresses {
        TcpListener::bind(address).map(drop).with_context(|| {
            format!("cannot listen on {address}; choose another port with PORT=9000, or an address with BIND=127.0.0.1")
        })?;
    }
    Ok(())
}

/// Where the public port is bound: `BIND`'s addresses, or both loopback addresses as far as this
/// machine has them (`localhost` resolves to either).
pub(crate) fn public_addresses(bind: Option<&str>, port: u16) -> Result<Vec<SocketAddr>> {
    let Some(bind) = bind.filter(|bind| !bind.is_empty()) else {
        let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        if is_free((Ipv6Addr::LOCALHOST, 0).into()) {
            addresses.push((Ipv6Addr::LOCALHOST, port).into());
        }
        return Ok(addresses);
    };
    bind.split(',')
        .map(|address| {
            let address = address.trim().trim_start_matches('[').trim_end_matches(']');
            let address = address.parse().with_context(|| format!("BIND: {address:?} is no IP address"))?;
            Ok(SocketAddr::new(address, port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_unique() {
        let mut ports = Ports::default();
        let drawn: HashSet<u16> = (0..100).map(|_| ports.free().unwrap()).collect();
        assert_eq!(drawn.len(), 100);
        assert!(drawn.iter().all(|port| (FIRST_PORT..LAST_PORT).contains(port)));
    }

    #[test]
    fn error_names_port_in_use() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let error = ensure_free(&[address]).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("PORT=9000"), "{error}");
    }

    #[test]
    fn bind_accepts_several_addresses() {
        let addresses = public_addresses(Some("0.0.0.0, [::1]"), 80).unwrap();
        assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0.0.0.0:80", "[::1]:80"]);
        assert!(public_addresses(Some("localhost"), 80).is_err());
    }
}
