//! What operators read when PostgreSQL cannot prove who it is: in the log, and on the admin port.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use e2e::WAIT_TIMEOUT;
use serde_json::Value;
use stack::Stack;

use crate::certificates::Certificates;
use crate::servers::{encrypt_postgres, wait_until};
use crate::{SECRET, Service, binary};

pub(crate) fn operators_read_why_postgresql_is_not_believed(backends: &Stack, certificates: &Certificates) {
    let (right, wrong) = (certificates.authority(), certificates.stranger());
    let database = format!("{}?sslmode=verify-full", backends.env().database_url.replace("127.0.0.1", "localhost"));
    let misnamed = database.replace("localhost", "127.0.0.1");
    reason_is_told(&database, &wrong, "UnknownIssuer");
    reason_is_told(&misnamed, &right, "not valid for name");
    encrypt_postgres(backends, certificates.expired(), certificates);
    wait_until("PostgreSQL has its new certificate", || {
        let refused = binary("api-service")
            .arg("migrate")
            .env("DATABASE_URL", &database)
            .env("DATABASE_CA_FILE", &right)
            .output();
        String::from_utf8_lossy(&refused.unwrap().stderr).contains("expired")
    });
    reason_is_told(&database, &right, "expired");
}

pub(crate) fn authority_without_tls_is_refused_by_both_services(certificates: &Certificates) {
    let refusal = |service: &str, variables: &[(&str, &str)]| -> String {
        let mut command = binary(service);
        command.arg("serve").env("DATABASE_URL", "postgres://127.0.0.1:1/none").env("REDIS_URL", "redis://127.0.0.1:1");
        command.env("JWT_SECRET", SECRET).env("MODE", "development").envs(variables.iter().copied());
        let refused = command.stdout(Stdio::null()).output().unwrap();
        let text = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{service}: {text}");
        text
    };
    let ca = certificates.authority();
    let texts = ["api-service", "ws-gateway"].map(|service| {
        let text = refusal(service, &[("REDIS_CA_FILE", &ca)]);
        text.lines().find(|line| line.contains("REDIS_CA_FILE: is of no use")).expect(&text).to_owned()
    });
    assert_eq!(texts[0], texts[1], "both services refuse alike");
    let text = refusal(
        "api-service",
        &[("DATABASE_CA_FILE", &ca), ("DATABASE_URL", "postgres://127.0.0.1:1/none?sslmode=disable")],
    );
    assert!(text.contains("DATABASE_CA_FILE: is of no use"), "{text}");
}

fn reason_is_told(database: &str, ca: &str, reason: &str) {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = binary("api-service");
    command
        .arg("serve")
        .env("DATABASE_URL", database)
        .env("DATABASE_CA_FILE", ca)
        .env("REDIS_URL", "redis://127.0.0.1:1");
    command.env("JWT_SECRET", SECRET).env("MODE", "development").env("LOG_LEVEL", "warn");
    command.env("LISTEN_ADDR", "127.0.0.1:0").env("ADMIN_ADDR", admin.to_string());
    let mut running = Service(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let lines = lines_of(&mut running);

    let line = loop {
        let line = lines.recv_timeout(WAIT_TIMEOUT).expect("the log says why");
        if line.contains("database unreachable") {
            break line;
        }
    };
    assert!(line.contains("certificate") && line.contains(reason), "{reason}: {line}");

    let (status, readiness) = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http.get(format!("http://{admin}/readyz")).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap())
    });
    let detail = readiness["detail"].as_str().unwrap();
    assert_eq!((status, &readiness["dependencies"]["postgresql"]), (503, &Value::from("down")));
    assert!(detail.contains("certificate") && detail.contains(reason), "{reason}: {detail}");
    let password = database.split([':', '@']).nth(2).unwrap();
    assert!(!detail.contains(password) && !line.contains(password), "the reason, and no password");
}

fn lines_of(running: &mut Service) -> Receiver<String> {
    let lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _reader_is_gone = sender.send(line);
        }
    });
    receiver
}
