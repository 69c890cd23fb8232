//! A certificate that does not match never leads to plaintext, even where the server accepts plaintext.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use e2e::WAIT_TIMEOUT;
use stack::Stack;

use crate::certificates::Certificates;
use crate::servers::{TlsRedis, offer_tls, wait_until};
use crate::{SECRET, Service, binary};

/// The first byte of a TLS connection: a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

pub(crate) fn postgresql_gets_no_plaintext_after_a_failed_handshake(backends: &Stack, certificates: &Certificates) {
    let database = offer_tls(backends, certificates.certificate(), certificates, "host");
    // The authorities of the system, in place of DATABASE_CA_FILE, which would require TLS.
    let migrate = |mode: &str, authorities: &str| -> Output {
        let mut command = binary("api-service");
        command.arg("migrate").env("DATABASE_URL", format!("{database}{mode}")).env("SSL_CERT_FILE", authorities);
        command.env_remove("SSL_CERT_DIR").output().unwrap()
    };
    let (right, wrong) = (certificates.authority(), certificates.stranger());
    wait_until("PostgreSQL speaks TLS", || migrate("?sslmode=require", &right).status.success());
    assert!(migrate("?sslmode=disable", &wrong).status.success(), "this server accepts plaintext");
    for mode in ["", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full"] {
        assert!(migrate(mode, &right).status.success(), "{mode}");
        let refused = migrate(mode, &wrong);
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && text.contains("UnknownIssuer"), "{mode}: {text}");
        assert!(text.contains("DATABASE_CA_FILE"), "the error names the remedy: {text}");
    }
}

pub(crate) fn redis_gets_no_plaintext_after_a_failed_handshake(redis: &TlsRedis, certificates: &Certificates) {
    for service in ["api-service", "ws-gateway"] {
        let (port, first_bytes) = record_first_bytes(redis.port);
        let mut command = binary(service);
        command.arg("serve").env("REDIS_URL", redis.kind().url("localhost", port));
        command.env("REDIS_CA_FILE", certificates.stranger()).env("DATABASE_URL", "postgres://127.0.0.1:1/none");
        command.env("JWT_SECRET", SECRET).env("MODE", "development");
        command.env("LISTEN_ADDR", "127.0.0.1:0").env("ADMIN_ADDR", "127.0.0.1:0");
        let _running = Service(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        for attempt in 0..3 {
            let first = first_bytes.recv_timeout(WAIT_TIMEOUT).expect("the service tries again");
            assert_eq!(first, TLS_HANDSHAKE, "{service}, attempt {attempt}");
        }
    }
}

/// A port that leads to another one, and the first byte of each connection to it.
fn record_first_bytes(port: u16) -> (u16, Receiver<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (notify, first_bytes) = channel();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let notify = notify.clone();
            thread::spawn(move || {
                let mut first = [0];
                // A connection without a byte says nothing.
                if client.peek(&mut first).is_ok_and(|read| read == 1) && notify.send(first[0]).is_ok() {
                    let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    let answers = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    thread::spawn(move || forward(answers.0, answers.1));
                    forward(client, server);
                }
            });
        }
    });
    (address.port(), first_bytes)
}

fn forward(mut from: TcpStream, mut to: TcpStream) {
    let _cut = io::copy(&mut from, &mut to);
    let _gone = to.shutdown(Shutdown::Write);
}
