//! Where a request comes from: its name in logs and in the audit trail, and the address behind the proxies.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::kit::env::Setting;

/// Header in which each proxy names the address that it was asked by.
pub const FORWARDED_FOR_HEADER: &str = "x-forwarded-for";

/// Header in which a proxy says whether it was asked over TLS.
pub const FORWARDED_PROTO_HEADER: &str = "x-forwarded-proto";

/// Header in which a proxy says under which host it was asked.
pub const FORWARDED_HOST_HEADER: &str = "x-forwarded-host";

/// Under which name, and how, a request asked for this system, as far as proxies that we trust can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site<'a> {
    /// The host, perhaps with a port.
    pub host: Option<&'a str>,
    /// Whether it is known to have come over TLS.
    pub is_tls: bool,
}

/// Whether a text consists of the characters of a host, perhaps with a port.
#[must_use]
pub fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']'))
}

/// A method as metrics and spans name it: any token is a method, and a stranger's must not become names that are kept.
#[must_use]
pub fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// The setting that both services have.
pub const TRUSTED_PROXIES: Setting = Setting {
    name: "TRUSTED_PROXIES",
    default: Some(""),
    help: "proxies whose `X-Forwarded-*` and `traceparent` are trusted: addresses or networks, as 10.0.0.7,10.1.0.0/16, separated by commas; \
           none by default",
};

/// What is known of a request before it is parsed. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Value of `X-Request-Id`.
    pub request_id: Arc<str>,
    /// Who asks, as far as proxies that we trust can tell.
    pub address: IpAddr,
}

/// The proxies whose word on addresses counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

/// Text that is no list of networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a list of addresses or networks, separated by commas")]
pub struct InvalidNetworks;

impl FromStr for TrustedProxies {
    type Err = InvalidNetworks;

    fn from_str(text: &str) -> Result<Self, InvalidNetworks> {
        let network = |text: &str| match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address)),
            Err(_) => text.parse::<IpNet>().map_err(|_| InvalidNetworks),
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(","))
    }
}

impl TrustedProxies {
    /// Whether what this peer says of others counts.
    #[must_use]
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.contains(peer.to_canonical())
    }

    /// Whether the networks are so wide that proxies alone cannot fill them.
    pub(crate) fn is_overly_broad(&self) -> bool {
        IpNet::aggregate(&self.0).iter().any(|network| match network {
            IpNet::V4(network) => network.prefix_len() < 8,
            IpNet::V6(network) => network.prefix_len() < 16,
        })
    }

    fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Whether a request came over TLS to the proxy that passed it on, and that proxy can be believed.
    #[must_use]
    pub fn is_tls(&self, peer: IpAddr, forwarded_proto: Option<&str>) -> bool {
        self.contains(peer.to_canonical()) && forwarded_proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
    }

    /// Under which name, and how, `peer` was asked. `header` gives the text of a header that is there once.
    #[must_use]
    pub fn site<'a>(&self, peer: Option<IpAddr>, header: impl Fn(&'static str) -> Option<&'a str>) -> Site<'a> {
        let host = header("host");
        let Some(peer) = peer.filter(|peer| self.trust(*peer)) else {
            return Site { host, is_tls: false };
        };
        let forwarded = header(FORWARDED_HOST_HEADER).filter(|host| is_host(host));
        Site { host: forwarded.or(host), is_tls: self.is_tls(peer, header(FORWARDED_PROTO_HEADER)) }
    }

    /// The client's address: `peer`, or the address that it names if `peer` is a trusted proxy. `forwarded_for` are the
    /// header's lines in order, as bytes, because a client may send any text in front of the proxy's own entry. So it is read
    /// from the right, up to the first address that is not a trusted proxy.
    #[must_use]
    pub fn address<'a>(&self, peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>) -> IpAddr {
        let mut address = peer.to_canonical();
        for named in forwarded_for.rev().flat_map(|line| line.rsplit(|byte| *byte == b',')) {
            if !self.contains(address) {
                break;
            }
            match std::str::from_utf8(named).ok().and_then(|named| parse_forwarded(named.trim())) {
                Some(named) => address = named,
                // A trusted proxy could not name its client. The proxy's own address would be shared by all such clients, so
                // one of them could use up the limit of the others.
                None => return UNKNOWN_ADDRESS,
            }
        }
        address
    }
}

/// The address of a caller whom a trusted proxy could not name (`unknown`, a name of its own, or nothing). It has no limit of
/// its own: see [`crate::kit::token_bucket::client_network`].
pub const UNKNOWN_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// An address as proxies write it: bare, with a port (`203.0.113.9:443`, `[2001:db8::1]:443`), in brackets, in quotes as in
/// `Forwarded`, or with the zone of a link (`fe80::1%eth0`). The translation of an IPv4 address (NAT64) is that address.
fn parse_forwarded(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches('"');
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, port) = rest.split_once(']')?;
            is_port(port).then_some(inside)?
        }
        // One colon is a port, more are an IPv6 address.
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => is_port(&text[host.len()..]).then_some(host)?,
            _ => text,
        },
    };
    let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
    let address: IpAddr = bare.parse().ok()?;
    let address = address.to_canonical();
    (!address.is_unspecified()).then_some(address)
}

/// Nothing, or a port behind a colon.
fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(trusted: &str, peer: &str, lines: &[&str]) -> String {
        let trusted: TrustedProxies = trusted.parse().unwrap();
        trusted.address(peer.parse().unwrap(), lines.iter().map(|line| line.as_bytes())).to_string()
    }

    #[test]
    fn no_proxy_is_trusted_by_default() {
        assert_eq!(address("", "127.0.0.1", &["203.0.113.9"]), "127.0.0.1");
        assert_eq!(address("10.0.0.0/8", "192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn forwarded_for_is_read_from_the_right() {
        let trusted = "127.0.0.1, 10.0.0.0/8,2001:db8::/32";
        assert_eq!(address(trusted, "127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(address(trusted, "::ffff:127.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(address(trusted, "127.0.0.1", &["6.6.6.6, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(address(trusted, "127.0.0.1", &["6.6.6.6, 203.0.113.9 ,10.1.2.3"]), "203.0.113.9");
        assert_eq!(address(trusted, "127.0.0.1", &["6.6.6.6", "203.0.113.9", "2001:db8::1"]), "203.0.113.9");
        assert_eq!(address(trusted, "127.0.0.1", &["10.9.9.9"]), "10.9.9.9");
    }

    #[test]
    fn only_trusted_proxy_sets_forwarded_proto() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let is_tls = |peer: &str, proto| trusted.is_tls(peer.parse().unwrap(), proto);
        assert!(is_tls("10.1.2.3", Some("https")) && is_tls("::ffff:10.1.2.3", Some("HTTPS")));
        assert!(!is_tls("10.1.2.3", Some("http")) && !is_tls("10.1.2.3", None) && !is_tls("192.0.2.1", Some("https")));
    }

    #[test]
    fn only_trusted_proxy_sets_forwarded_host() {
        let trusted: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let site = |peer: &str, forwarded: Option<&'static str>| {
            trusted.site(peer.parse().ok(), |name| match name {
                "host" => Some("api:8081"),
                FORWARDED_HOST_HEADER => forwarded,
                FORWARDED_PROTO_HEADER => Some("https"),
                _ => None,
            })
        };
        let known = Site { host: Some("chat.example"), is_tls: true };
        assert_eq!(site("10.1.2.3", Some("chat.example")), known);
        for unusable in [None, Some(""), Some("a, b"), Some("a/b")] {
            assert_eq!(site("10.1.2.3", unusable), Site { host: Some("api:8081"), is_tls: true }, "{unusable:?}");
        }
        assert_eq!(site("192.0.2.1", Some("chat.example")), Site { host: Some("api:8081"), is_tls: false });
        assert_eq!(trusted.site(None, |_| Some("x")), Site { host: Some("x"), is_tls: false });
    }

    #[test]
    fn address_is_read_with_port_brackets_and_zone() {
        for (line, expected) in [
            ("203.0.113.9:80", "203.0.113.9"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("\"[2001:db8::7]:443\"", "2001:db8::7"),
            ("fe80::7%eth0", "fe80::7"),
            ("[fe80::7%25eth0]:80", "fe80::7"),
            ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
        ] {
            assert_eq!(address("127.0.0.1", "127.0.0.1", &[line]), expected, "{line}");
            // Behind a second proxy that names the first one with its port.
            assert_eq!(address("127.0.0.1,10.0.0.1", "127.0.0.1", &[line, "10.0.0.1:999"]), expected, "{line}");
        }
    }

    #[test]
    fn unnamed_client_gets_unknown_address() {
        for line in ["", "unknown", "_hidden", "203.0.113.9,", "203.0.113.9:x", "203.0.113.9:70000", "[::1", "0.0.0.0"]
        {
            assert_eq!(address("127.0.0.1", "127.0.0.1", &[line]), UNKNOWN_ADDRESS.to_string(), "{line}");
        }
        let trusted: TrustedProxies = "127.0.0.1".parse().unwrap();
        let peer = "127.0.0.1".parse().unwrap();
        assert_eq!(trusted.address(peer, [&b"203.0.113.\xb9"[..]].into_iter()), UNKNOWN_ADDRESS, "no text");
        // A request without the header comes from the proxy itself: a health check.
        assert_eq!(address("127.0.0.1", "127.0.0.1", &[]), "127.0.0.1");
    }

    #[test]
    fn networks_survive_a_round_trip() {
        for bad in ["10.0.0.0/33", "host", "10.0.0.1:80", "10.0.0.1;10.0.0.2"] {
            assert_eq!(bad.parse::<TrustedProxies>(), Err(InvalidNetworks), "{bad}");
        }
        let read: TrustedProxies = "10.0.0.1,2001:db8::/32".parse().unwrap();
        assert_eq!(read.to_string(), "10.0.0.1/32,2001:db8::/32");
    }

    #[test]
    fn unknown_methods_share_one_label() {
        assert_eq!(["GET", "PUT", "get", "AAAA1", ""].map(method_label), ["GET", "PUT", "other", "other", "other"]);
    }

    proptest! {
        #[test]
        fn untrusted_client_cannot_choose_its_address(claims in prop::collection::vec("[-0-9a-z.:, ]{0,40}", 0..4)) {
            // The last line is the one that our own proxy writes.
            let lines: Vec<&str> = claims.iter().map(String::as_str).chain(["203.0.113.9"]).collect();
            prop_assert_eq!(address("127.0.0.1", "127.0.0.1", &lines), "203.0.113.9");
        }

        #[test]
        fn forged_entries_do_not_change_the_address(
            lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..3),
            begun in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            // The outer proxy has added to a stranger's own line, and the inner one to the outer's, or in a line of its own.
            let trusted: TrustedProxies = "127.0.0.1, 10.0.0.0/8".parse().unwrap();
            let peer = "127.0.0.1".parse().unwrap();
            let read = |ends: &[&[u8]]| {
                let added = [&begun, ends[0]].concat();
                let lines = lines.iter().map(Vec::as_slice).chain([added.as_slice()]).chain(ends[1..].iter().copied());
                trusted.address(peer, lines.collect::<Vec<_>>().into_iter()).to_string()
            };
            prop_assert_eq!(read(&[b", 203.0.113.9, 10.0.0.7"]), "203.0.113.9");
            prop_assert_eq!(read(&[b",203.0.113.9", b"10.0.0.7"]), "203.0.113.9");
        }
    }
}
