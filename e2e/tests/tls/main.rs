//! TLS to Redis and to PostgreSQL, with certificates made here: it works with the right authority and the right name, and
//! with nothing less.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it finds the fault")]

mod certificates;
mod downgrade;
mod refusals;
mod servers;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use certificates::Certificates;
use e2e::{TestLocation, WAIT_TIMEOUT};
use servers::{RedisKind, TlsRedis, encrypt_postgres, wait_until};
use stack::{Stack, StackOptions};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn start(options: StackOptions) -> Stack {
    Stack::start(options).unwrap()
}

#[test]
fn tls_works_and_unproven_servers_are_rejected() {
    let certificates = Certificates::make();
    let backends = start(StackOptions { only_backends: true, ..StackOptions::default() });
    downgrade::postgresql_gets_no_plaintext_after_a_failed_handshake(&backends, &certificates);
    let database = encrypt_postgres(&backends, certificates.certificate(), &certificates);
    migrations_are_verified(&database, &certificates);
    for kind in [RedisKind::Single, RedisKind::Cluster, RedisKind::Sentinel] {
        let redis = TlsRedis::start(&certificates, kind);
        services_are_verified(&redis, &certificates);
        downgrade::redis_gets_no_plaintext_after_a_failed_handshake(&redis, &certificates);
        chat_works(&database, &redis.url("localhost"), &certificates);
    }
    refusals::authority_without_tls_is_refused_by_both_services(&certificates);
    refusals::operators_read_why_postgresql_is_not_believed(&backends, &certificates);
    backends.stop().unwrap();
}

fn chat_works(database: &str, redis: &str, certificates: &Certificates) {
    let env = [
        ("DATABASE_URL", format!("{database}?sslmode=verify-full")),
        ("DATABASE_CA_FILE", certificates.authority()),
        ("REDIS_URL", redis.to_owned()),
        ("REDIS_CA_FILE", certificates.authority()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let stack = start(StackOptions { env, ..StackOptions::default() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let place = TestLocation::new(&stack);
        let (doctor, patient) = (place.user("doc"), place.contact("pat"));
        let mut at_doctor = doctor.open(&patient).await;
        let mut at_patient = patient.open(&doctor).await;
        let sent = doctor.send_ok(&patient, "under seal").await;
        assert_eq!(at_patient.expect("message").await["message"], sent);
        assert_eq!(at_doctor.expect("delivered").await["message_ids"], serde_json::json!([sent["id"]]));
    });
    stack.stop().unwrap();
}

fn binary(name: &str) -> Command {
    let folder = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
    let mut command = Command::new(folder.join(name));
    for variable in ["DATABASE_URL", "DATABASE_CA_FILE", "REDIS_URL", "REDIS_CA_FILE"] {
        command.env_remove(variable);
    }
    command
}

fn migrations_are_verified(database: &str, certificates: &Certificates) {
    let migrate = |url: &str, mode: &str, ca: Option<&str>| -> Output {
        let mut command = binary("api-service");
        command.arg("migrate").env("DATABASE_URL", format!("{url}{mode}"));
        command.envs(ca.map(|file| ("DATABASE_CA_FILE", file))).output().unwrap()
    };
    let (right, wrong) = (certificates.authority(), certificates.stranger());
    let misnamed = database.replace("localhost", "127.0.0.1");
    wait_until("PostgreSQL speaks TLS", || migrate(database, "", Some(&right)).status.success());
    for mode in ["?sslmode=prefer", "?sslmode=require", "?sslmode=verify-ca", "?sslmode=verify-full"] {
        assert!(migrate(database, mode, Some(&right)).status.success(), "{mode}");
        for (url, ca) in [(database, &wrong), (misnamed.as_str(), &right)] {
            let refused = migrate(url, mode, Some(ca));
            let text = String::from_utf8(refused.stderr).unwrap();
            assert!(!refused.status.success() && text.contains("certificate"), "{mode}: {text}");
        }
    }
    // Without a word about TLS it goes on without, as libpq does, and this server has none of that.
    for mode in ["", "?sslmode=disable", "?sslmode=require"] {
        assert!(!migrate(database, mode, None).status.success(), "{mode}");
    }
    assert!(!migrate(database, "?sslmode=disable", Some(&right)).status.success());
}

/// A service that ends with the value.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn services_are_verified(redis: &TlsRedis, certificates: &Certificates) {
    let (right, wrong) = (certificates.authority(), certificates.stranger());
    // Of a cluster the map comes first, and the Sentinels.
    let sentinel = "a Redis Sentinel does not name the master";
    let marks = match redis.kind() {
        RedisKind::Single => [("api-service", "no connection to Redis"), ("ws-gateway", "redis connection failed")],
        RedisKind::Cluster => {
            [("api-service", "no node of Redis says who serves what"), ("ws-gateway", "slot map read failed")]
        }
        RedisKind::Sentinel => [("api-service", sentinel), ("ws-gateway", sentinel)],
    };
    for (service, marks) in marks {
        for (host, ca) in [("localhost", &wrong), ("127.0.0.1", &right)] {
            let mut command = binary(service);
            command.arg("serve").env("REDIS_URL", redis.url(host)).env("REDIS_CA_FILE", ca);
            command
                .env("JWT_SECRET", SECRET)
                .env("MODE", "development")
                .env("DATABASE_URL", "postgres://127.0.0.1:1/none");
            command.env("LISTEN_ADDR", "127.0.0.1:0").env("ADMIN_ADDR", "127.0.0.1:0").env("LOG_LEVEL", "info");
            let mut running = Service(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
            let lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
            let (notify, notices) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let text = lines.map_while(Result::ok).find(|line| line.contains(marks));
                let _reader_is_gone = notify.send(text.unwrap_or_default());
            });
            let text = notices.recv_timeout(WAIT_TIMEOUT).unwrap();
            assert!(text.contains("InvalidCertificate"), "{service} at {host}: {text}");
        }
    }
}
