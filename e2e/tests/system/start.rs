//! Services that must not start: without keys, or with a published secret.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::issuer::{Issuer, Jwks};
use jsonwebtoken::Algorithm;

use crate::stack;

const SERVICES: [&str; 2] = ["api-service", "ws-gateway"];

fn command(service: &str, env: &[(&str, &str)]) -> Command {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let mut command = Command::new(folder.join(service));
    command.arg("serve").env_clear().envs(env.iter().copied()).stdin(Stdio::null());
    // No server is there: with good settings a service waits for it.
    command.env("DATABASE_URL", "postgres://127.0.0.1:1/none").env("REDIS_URL", "redis://127.0.0.1:1");
    // Of its own: without JWT_SECRET there is nothing to make one of.
    command.env("AUDIT_KEY", "5d1c9e0fb2a84c7790d36b1f8e2a4c09");
    command.env("LISTEN_ADDR", "127.0.0.1:0").env("ADMIN_ADDR", "127.0.0.1:0");
    command
}

/// What a service says that does not start.
fn refusal(service: &str, env: &[(&str, &str)]) -> (i32, String) {
    let Output { status, stderr, .. } = command(service, env).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

/// Whether a service gets as far as to listen.
fn starts(service: &str, env: &[(&str, &str)]) -> bool {
    use std::io::{BufRead, BufReader};
    let mut child = command(service, env).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let text = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut text = text.filter(|line| line.contains("api-service serves") || line.contains("gateway started"));
    let listens = text.next().is_some();
    let ended_by_itself = child.try_wait().unwrap().is_some();
    let _gone = child.kill();
    let _gone = child.wait();
    listens && !ended_by_itself
}

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("start-{}-{name}", std::process::id()))
}

#[test]
fn development_secrets_are_rejected_in_production() {
    let made = stack().env().jwt_secret;
    assert!(made.starts_with("development-"), "what the stack makes can be recognised");
    for service in SERVICES {
        for secret in [made.as_str(), "0123456789abcdef0123456789abcdef", "a-string-secret-at-least-256-bits-long"] {
            for mode in [&[("JWT_SECRET", secret)][..], &[("JWT_SECRET", secret), ("MODE", "production")]] {
                let (code, text) = refusal(service, mode);
                assert_eq!(code, 64, "{service}: {text}");
                assert!(text.contains("JWT_SECRET") && !text.contains(secret), "{service}: {text}");
            }
            assert!(starts(service, &[("JWT_SECRET", secret), ("MODE", "development")]), "{service}");
        }
        let (code, text) = refusal(service, &[("JWT_SECRET", &made), ("MODE", "staging")]);
        assert!(code == 64 && text.contains("MODE"), "{service}: {text}");
    }
}

#[test]
fn service_does_not_start_without_usable_key() {
    let broken = file("broken.json");
    let weak = file("weak.json");
    std::fs::write(&broken, "{").unwrap();
    std::fs::write(&weak, r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMyMzI"}]}"#).unwrap();
    let (broken, weak) = (broken.to_str().unwrap(), weak.to_str().unwrap());
    let rsa = Issuer::new(Algorithm::RS256, "k1");
    let good = Jwks::publish(file("good.json"), &[&rsa]);
    let path = good.path().to_str().unwrap();
    for service in SERVICES {
        for (env, named) in [
            (vec![], "JWT_SECRET"),
            (vec![("JWKS_FILE", "/nonexistent")], "JWKS_FILE"),
            (vec![("JWKS_FILE", broken)], "JWKS_FILE"),
            (vec![("JWKS_FILE", weak)], "JWKS_FILE"),
            (vec![("JWKS_URL", "http://ehr.example/jwks")], "JWKS_URL"),
            (vec![("JWKS_FILE", path), ("JWKS_URL", "https://ehr.example/jwks")], "JWKS_URL"),
        ] {
            let (code, text) = refusal(service, &env);
            assert!(code == 64 && text.contains(named), "{service} {env:?}: {code} {text}");
        }
        assert!(starts(service, &[("JWKS_FILE", path)]), "{service} needs no secret beside keys");
    }
    for path in [broken, weak, path] {
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn silent_issuer_is_awaited_and_then_named() {
    for service in SERVICES {
        let started = Instant::now();
        let (code, text) = refusal(service, &[("JWKS_URL", "http://127.0.0.1:1/jwks")]);
        assert!(code != 0 && code != 64, "{service}: {code} {text}");
        assert!(text.contains("no keys to verify tokens with"), "{service}: {text}");
        assert!(started.elapsed() >= Duration::from_secs(9), "{service}: {:?}", started.elapsed());
    }
}

#[test]
fn local_jwks_bypasses_proxy() {
    use std::io::{Read, Write};
    let rsa = Issuer::new(Algorithm::RS256, "k1");
    let set = serde_json::json!({"keys": [rsa.jwk()]}).to_string();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            let _request = tcp.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", set.len());
            let _gone = tcp.write_all(format!("{head}{set}").as_bytes());
        }
    });
    // No proxy is there: a request through it gets no keys.
    let proxy = "http://127.0.0.1:1";
    let proxies = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    for service in SERVICES {
        let mut env: Vec<(&str, &str)> = proxies.iter().map(|name| (*name, proxy)).collect();
        env.push(("JWKS_URL", &url));
        assert!(starts(service, &env), "{service}");
    }
}

/// Settings that a service lists in its help.
fn listed(service: &str) -> Vec<String> {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let help = Command::new(folder.join(service)).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let settings = help.split("Settings (environment variables):").nth(1).unwrap();
    let names = settings.lines().filter_map(|line| line.strip_prefix("  ")?.split_once(" ("));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| !name.is_empty() && !name.contains(' ')).collect()
}

#[test]
fn misspelt_settings_are_rejected() {
    for (service, other) in [SERVICES, ["ws-gateway", "api-service"]].map(|[one, other]| (one, other)) {
        let names = listed(other);
        assert!(names.len() > 20, "{names:?}");
        let mut env: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "nonsense")).collect();
        env.push(("MAX_SOCKETS_PER_PARTICPANT", "5"));
        let (code, text) = refusal(service, &env);
        assert_eq!(code, 64, "{service}: {text}");
        let unknown: Vec<&str> = text.lines().filter(|line| line.contains("there is no such setting")).collect();
        assert_eq!(unknown.len(), 1, "{service} does not know {unknown:?} of {other}");
        assert!(unknown[0].contains("MAX_SOCKETS_PER_PARTICPANT"), "{unknown:?}");
        assert!(unknown[0].contains("did you mean MAX_SOCKETS_PER_PARTICIPANT?"), "{unknown:?}");
    }
}

#[test]
fn insecure_production_settings_are_rejected_by_name() {
    const SECRET: &str = "8f2d1c9e0fb2a84c7790d36b1f8e2a4c";
    let weak = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for (name, value, services) in [
        ("JWT_SECRET", "abababababababababababababababab", &SERVICES[..]),
        ("LOG_LEVEL", "inof", &SERVICES),
        ("RELAY_KEYS", weak, &SERVICES),
        ("AUDIT_KEY", SECRET, &SERVICES[..1]),
        ("AUDIT_KEY", "development-5d1c9e0fb2a84c7790d36b1f8e2a4c09", &SERVICES[..1]),
        ("AUDIT_KEY", "0123456789abcdef0123456789abcdef", &SERVICES[..1]),
        ("AUDIT_KEY", "00000000000000000000000000000000", &SERVICES[..1]),
        ("DATABASE_URL", "mysql://root:hunter2@127.0.0.1/chat", &SERVICES[..1]),
        ("DATABASE_URL", "not a url", &SERVICES[..1]),
    ] {
        for service in services {
            let mut command = command(service, &[]);
            let Output { status, stderr, .. } = command.env("JWT_SECRET", SECRET).env(name, value).output().unwrap();
            let text = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(64), "{service}, {name}: {text}");
            assert!(text.contains(&format!("{name}:")) && !text.contains(value), "{service}, {name}: {text}");
        }
    }
}

/// Commands of the API service that connect to PostgreSQL.
const CONNECTING: [&[&str]; 8] = [
    &["serve"],
    &["migrate"],
    &["keys", "rewrap"],
    &["audit", "verify"],
    &["audit", "export"],
    &["outbox", "list"],
    &["outbox", "retry", "--all"],
    &["revoke", "--jti", "1"],
];

/// What a command of a service does with links to other machines: its exit code and output.
fn run_with_links(service: &str, arguments: &[&str], database: &str, redis: &str, mode: &str) -> (i32, String) {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let mut command = Command::new(folder.join(service));
    command.args(arguments).env_clear().env("DATABASE_URL", database).env("REDIS_URL", redis).env("MODE", mode);
    command.env("JWT_SECRET", "8f2d1c9e0fb2a84c7790d36b1f8e2a4c").env("AUDIT_KEY", "5d1c9e0fb2a84c7790d36b1f8e2a4c09");
    // Not usable, so that no command goes on to connect.
    command.env("DATABASE_POOL_SIZE", "0").stdin(Stdio::null());
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn production_refuses_plaintext_links_to_other_machines() {
    const PLAIN: &str = "without TLS, and MODE is production";
    let (database, redis) = ("postgres://u:hunter2@db.invalid/chat", "redis://:hunter2@redis.invalid");
    for arguments in CONNECTING {
        for url in [database.to_owned(), format!("{database}?sslmode=prefer"), format!("{database}?sslmode=disable")] {
            let (code, text) = run_with_links("api-service", arguments, &url, redis, "production");
            let line = text.lines().find(|line| line.contains("DATABASE_URL: ")).unwrap_or_default();
            assert!(code == 64 && line.contains(PLAIN), "{arguments:?}: {text}");
            assert!(line.contains("sslmode=verify-full") && line.contains("PLAINTEXT_LINKS=private-network"), "{line}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        for url in
            [&format!("{database}?sslmode=require"), "postgres://u@localhost/chat", "postgres://u@127.0.0.1/chat"]
        {
            let (_, text) = run_with_links("api-service", arguments, url, "rediss://redis.invalid", "production");
            assert!(!text.contains(PLAIN), "{arguments:?}, {url}: {text}");
        }
        let (_, text) = run_with_links("api-service", arguments, database, redis, "development");
        assert!(!text.contains(PLAIN), "{arguments:?}: {text}");
    }
    for service in SERVICES {
        let (code, text) = run_with_links(service, &["serve"], &format!("{database}?sslmode=require"), redis, "");
        let line = text.lines().find(|line| line.contains("REDIS_URL: ")).unwrap_or_default();
        assert!(code == 64 && line.contains(PLAIN), "{service}: {text}");
        assert!(line.contains("rediss://") && line.contains("PLAINTEXT_LINKS=private-network"), "{service}: {line}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// Starts a service, and reads its log until it holds these texts.
fn output_until(mut command: Command, expected: &[String]) -> String {
    use std::io::{BufRead, BufReader};
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut output = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        output.push_str(&line);
        if expected.iter().all(|text| output.contains(text)) {
            break;
        }
    }
    let _gone = child.kill();
    let _gone = child.wait();
    assert!(expected.iter().all(|text| output.contains(text)), "{expected:?}: {output}");
    output
}

#[test]
fn private_network_permits_plaintext_links_with_a_warning() {
    for service in SERVICES {
        let mut command = command(service, &[("PLAINTEXT_LINKS", "private-network")]);
        command.env("JWT_SECRET", "8f2d1c9e0fb2a84c7790d36b1f8e2a4c");
        command
            .env("DATABASE_URL", "postgres://u:hunter2@db.invalid/chat")
            .env("REDIS_URL", "redis://:hunter2@redis.invalid");
        let links = ["REDIS_URL", "DATABASE_URL"].map(|link| format!("{link} leads to another machine without TLS"));
        let expected = if service == "ws-gateway" { &links[..1] } else { &links };
        let output = output_until(command, expected);
        assert!(!output.contains("hunter2"), "{output}");
        let (code, text) = refusal(service, &[("PLAINTEXT_LINKS", "yes")]);
        assert!(code == 64 && text.contains("PLAINTEXT_LINKS: must be private-network"), "{service}: {text}");
    }
}
