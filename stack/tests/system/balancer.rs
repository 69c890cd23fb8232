//! `deploy/haproxy.cfg` behind another load balancer, which is a real HAProxy as well: whose word about the client counts.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use stack::{Stack, StackOptions};

use crate::test_env::{exchange_with, get, unused_path, with_fake_services};

/// A load balancer in front of a stack. It tells what its clients put into `X-Client` as their address.
struct Balancer {
    process: Child,
    url: String,
}

impl Balancer {
    /// `server` says how it connects: from which address, with which protocol. All clients share its connections.
    fn start(stack: &Stack, server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fd = OwnedFd::from(listener);
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let public = stack.base_url().replace("http://localhost", "127.0.0.1");
        let config = format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n http-reuse always\n\
             listen balancer\n bind fd@{}\n http-request set-header X-Forwarded-For %[req.fhdr(x-client)] if {{ req.hdr(x-client) -m found }}\n \
             http-request set-header X-Forwarded-Proto https\n server stack {public} {server}\n",
            fd.as_raw_fd()
        );
        let path = unused_path("balancer.cfg");
        std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        let process =
            command.args(["-db", "-f"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { process, url }
    }

    /// What the service saw of a request.
    fn get(&self, headers: &str) -> String {
        exchange_with(&self.url, &format!("GET / HTTP/1.1\r\nHost: chat\r\nConnection: close\r\n{headers}\r\n"))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn behind(setting: &str, addresses: &str) -> Stack {
    let env = vec![(setting.to_owned(), addresses.to_owned())];
    Stack::start(StackOptions { env, ..with_fake_services() }).unwrap()
}

/// The address and the scheme that reach the service, each once.
fn assert_client(seen: &str, address: &str, scheme: &str) {
    for (header, value) in [("x-forwarded-for", address), ("x-forwarded-proto", scheme)] {
        let lines: Vec<&str> = seen.lines().filter(|line| line.starts_with(header)).collect();
        assert_eq!(lines, [format!("{header}: {value}")], "{seen}");
    }
}

#[test]
fn forwarded_address_counts_from_configured_balancer_only() {
    let stack = behind("FORWARDED_FROM", "127.0.0.9 127.0.0.10/31");
    let trusted = Balancer::start(&stack, "source 127.0.0.9");
    assert_client(&trusted.get("X-Client: 203.0.113.7\r\n"), "203.0.113.7", "https");
    // The next client of the same connection is another one.
    assert_client(&trusted.get("X-Client: 2001:db8::7\r\n"), "2001:db8::7", "https");
    // The client has made up the first entry, and the balancer added the second.
    assert_client(&trusted.get("X-Client: 6.6.6.6, 203.0.113.8\r\n"), "203.0.113.8", "https");
    // A balancer before the balancer.
    assert_client(&trusted.get("X-Client: 6.6.6.6, 203.0.113.9, 127.0.0.11\r\n"), "203.0.113.9", "https");
    assert_client(&trusted.get("X-Client: nonsense\r\n"), "127.0.0.9", "https");
    // An entry that is no address hides no balancer, so the one before it does not count.
    assert_client(&trusted.get("X-Client: 6.6.6.6, nonsense\r\n"), "127.0.0.9", "https");

    let stranger = Balancer::start(&stack, "source 127.0.0.8");
    assert_client(&stranger.get("X-Client: 203.0.113.7\r\n"), "127.0.0.8", "http");
    assert_client(
        &get(&stack, "/", "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n"),
        "127.0.0.1",
        "http",
    );
    stack.stop().unwrap();
}

#[test]
fn proxy_protocol_counts_from_configured_balancer_only() {
    let stack = behind("PROXY_PROTOCOL_FROM", "127.0.0.9");
    for version in ["send-proxy", "send-proxy-v2"] {
        let trusted = Balancer::start(&stack, &format!("source 127.0.0.9 {version}"));
        assert_client(&trusted.get("X-Client: 203.0.113.7\r\n"), "127.0.0.1", "http");
        let stranger = Balancer::start(&stack, &format!("source 127.0.0.8 {version}"));
        let refused = stranger.get("");
        assert!(refused.starts_with("HTTP/1.1 400 ") || refused.starts_with("HTTP/1.1 502 "), "{version}: {refused}");
    }
    // Clients that come directly send no such header.
    assert_client(&get(&stack, "/", ""), "127.0.0.1", "http");
    stack.stop().unwrap();
}
