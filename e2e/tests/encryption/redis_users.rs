//! Both services work with the rights in Redis that `deploy/redis-users.acl` gives them, and with a gateway's password a client can do
//! nothing else there.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use e2e::{Socket, TestLocation, TestUser, token};
use reqwest::Method;
use serde_json::{Value, json};
use stack::{Stack, StackOptions};

use crate::until;

/// Refused to a gateway: everything but what it does.
const REFUSED_TO_GATEWAYS: &[&[&str]] = &[
    // No revocation is taken back, or made up, or hidden.
    &["ZREM", "revoked", "x"],
    &["ZADD", "revoked", "1", "x"],
    &["DEL", "revoked"],
    &["UNLINK", "revoked"],
    &["PEXPIRE", "revoked", "1"],
    &["RENAME", "revoked", "presence:{x}"],
    &["RENAME", "presence:{x}", "revoked"],
    &["EVAL", "return redis.call('ZREM', KEYS[1], 'x')", "1", "revoked"],
    &["EVAL", "return redis.call('ZADD', KEYS[1], '-inf', 'm')", "1", "revoked"],
    &["EVAL", "return redis.call('GET', KEYS[1])", "1", "{revoked}:draft"],
    // No ticket is made, or taken without its name.
    &["SET", "ticket:0", "x"],
    &["GET", "ticket:0"],
    // No gateway reads or removes what other gateways have written.
    &["XREAD", "STREAMS", "receipts", "0"],
    &["XRANGE", "audit", "-", "+"],
    &["XREADGROUP", "GROUP", "api", "x", "STREAMS", "audit", ">"],
    &["XACK", "audit", "api", "0-1"],
    &["XDEL", "audit", "0-1"],
    &["XTRIM", "audit", "MAXLEN", "0"],
    &["XGROUP", "DESTROY", "audit", "api"],
    &["PEXPIRE", "audit", "1"],
    &["DEL", "receipts"],
    // Nothing is taken out of an event log, or put into its middle, and nothing else becomes one.
    &["DEL", "chat:{x:y}:log"],
    &["XDEL", "chat:{x:y}:log", "0-1"],
    &["XSETID", "chat:{x:y}:log", "9-9"],
    &["SET", "chat:{x:y}:log", "x"],
    &["RENAME", "chat:{x:y}:log", "other"],
    &["RENAME", "receipts", "chat:{x:y}:log"],
    // Rows of inboxes are the API services' to publish.
    &["PUBLISH", "inbox:{x:user:y}", "x"],
    &["SPUBLISH", "inbox:{x:user:y}", "x"],
    &["GET", "inbox:{x:user:y}:z"],
    &["PUBLISH", "other", "x"],
    &["SUBSCRIBE", "other"],
    &["PSUBSCRIBE", "*"],
    &["PUBSUB", "CHANNELS"],
    // Nor anything that is not this system's.
    &["GET", "other"],
    &["SET", "other", "x"],
    &["EVAL", "return redis.call('GET', KEYS[1])", "1", "other"],
    &["EVAL", "return redis.call('GET', 'other')", "0"],
    &["EVAL", "return redis.call('FLUSHALL')", "0"],
];

/// Refused to both: what is for administrators.
const REFUSED_TO_BOTH: &[&[&str]] = &[
    &["FLUSHALL"],
    &["FLUSHDB"],
    &["CONFIG", "GET", "*"],
    &["CONFIG", "SET", "maxmemory", "1"],
    &["KEYS", "*"],
    &["SCAN", "0"],
    &["RANDOMKEY"],
    &["DBSIZE"],
    &["SELECT", "1"],
    &["SWAPDB", "0", "1"],
    &["ACL", "LIST"],
    &["ACL", "SETUSER", "default", "on"],
    &["CLIENT", "LIST"],
    &["CLIENT", "KILL", "TYPE", "normal"],
    &["CLIENT", "PAUSE", "1"],
    &["CLUSTER", "RESET"],
    &["CLUSTER", "FORGET", "0"],
    &["MONITOR"],
    &["SHUTDOWN", "NOSAVE"],
    &["SAVE"],
    &["REPLICAOF", "NO", "ONE"],
    &["SCRIPT", "FLUSH"],
    &["SCRIPT", "KILL"],
    &["FUNCTION", "LIST"],
    &["MODULE", "LIST"],
    &["SLOWLOG", "GET"],
    &["LATENCY", "RESET"],
    &["DUMP", "receipts"],
    &["MIGRATE", "127.0.0.1", "1", "receipts", "0", "1"],
    &["GET", "other"],
    &["SET", "other", "x"],
    &["SUBSCRIBE", "other"],
    &["PUBLISH", "other", "x"],
];

/// A Redis with the users of `deploy/make-secrets`, and one more that may do everything. Ends with the value.
struct Redis {
    process: Child,
    folder: PathBuf,
    port: u16,
    /// What `make-secrets` tells each service, by service and name.
    settings_of: HashMap<(&'static str, String), String>,
}

impl Redis {
    /// A single server, or the only node of a cluster.
    fn start(is_cluster: bool) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let port = free();
        let folder = std::env::temp_dir().join(format!("e2e-redis-users-{}", uuid::Uuid::now_v7().simple()));
        let made = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/make-secrets"))
            .arg(&folder)
            .env("REDIS_HOST", format!("127.0.0.1:{port}"))
            .status();
        assert!(made.unwrap().success());
        let mut settings_of = HashMap::new();
        for service in ["api-service", "ws-gateway"] {
            let file = std::fs::read_to_string(folder.join(format!("{service}.env"))).unwrap();
            let settings = file.lines().filter_map(|line| line.split_once('='));
            settings_of.extend(settings.map(|(name, value)| ((service, name.to_owned()), value.to_owned())));
        }
        let users = std::fs::read_to_string(folder.join("redis.conf")).unwrap();
        let file = folder.join("with-administrator.conf");
        std::fs::write(&file, format!("{users}\nuser administrator on nopass ~* &* +@all\n")).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(file).args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        if is_cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]);
            command.args(["--cluster-port", &free().to_string(), "--cluster-announce-ip", "127.0.0.1"]);
        }
        let process = command.current_dir(&folder).stdout(Stdio::null()).spawn().unwrap();
        let redis = Self { process, folder, port, settings_of };
        redis.wait_for("PONG", &["PING"]);
        if is_cluster {
            assert_eq!(redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
            redis.wait_for("cluster_state:ok", &["CLUSTER", "INFO"]);
        }
        redis
    }

    fn wait_for(&self, answer: &str, words: &[&str]) {
        let deadline = std::time::Instant::now() + e2e::WAIT_TIMEOUT;
        while !self.ask(words).contains(answer) {
            assert!(std::time::Instant::now() < deadline, "no {answer} to {words:?}");
        }
    }

    /// As the administrator.
    fn ask(&self, words: &[&str]) -> String {
        self.ask_at(&format!("redis://administrator:x@127.0.0.1:{}", self.port), words)
    }

    /// As a service.
    fn ask_as(&self, service: &'static str, words: &[&str]) -> String {
        self.ask_at(&self.settings_of[&(service, "REDIS_URL".to_owned())], words)
    }

    fn ask_at(&self, url: &str, words: &[&str]) -> String {
        // What ends the client's own patience is no refusal: it would wait for events.
        let output = Command::new("timeout")
            .args(["10", "redis-cli", "--no-auth-warning", "-u", url])
            .args(words)
            .current_dir(&self.folder)
            .output()
            .unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
    }

    /// Settings of the stack, so that each service gets those of `make-secrets`.
    fn env(&self, is_cluster: bool) -> Vec<(String, String)> {
        let settings_of = |service, name: &str| self.settings_of[&(service, name.to_owned())].clone();
        let url = |service| {
            let url = settings_of(service, "REDIS_URL");
            if is_cluster { url.replacen("redis://", "redis-cluster://", 1) } else { url }
        };
        let (api, gateway) = ("api-service", "ws-gateway");
        assert_eq!(settings_of(gateway, "RELAY_UNSEALED"), "refuse");
        let env = [
            ("REDIS_URL", url(api)),
            ("GATEWAY_REDIS_URL", url(gateway)),
            ("CONTENT_KEYS", settings_of(api, "CONTENT_KEYS")),
            ("RELAY_KEYS", settings_of(api, "RELAY_KEYS")),
            ("RELAY_UNSEALED", "refuse".to_owned()),
            ("PRESENCE_LINGER_SECONDS", "1".to_owned()),
            ("RECONCILE_INTERVAL_SECONDS", "1".to_owned()),
        ];
        env.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        let _gone = std::fs::remove_dir_all(&self.folder);
    }
}

/// Every kind of thing that the services do in Redis.
async fn everything(redis: &Redis, stack: &Stack) {
    let place = TestLocation::new(stack);
    let [first, second] = place.env.gateway_ws_urls.as_slice() else { panic!("two gateways") };
    let unique = format!("pat-{}", uuid::Uuid::now_v7().simple());
    let doctor = place.user("doc").at(&place.base_url, first);
    let patient = place.contact(&unique).at(&place.base_url, second);
    let mut at_doctor = doctor.open(&patient).await;
    let mut at_patient = patient.open(&doctor).await;
    let mut inbox = patient.open_inbox().await;
    chat(&doctor, &patient, &mut at_doctor, &mut at_patient).await;
    inbox.expect("conversation").await;
    at_patient.send(&json!({"type": "typing"}));
    at_doctor.expect("typing").await;

    // A client goes, comes back, and misses nothing. Presence is sent, and queried.
    let cursor = {
        let sent = doctor.send_ok(&patient, "seen").await;
        let frame = at_patient.expect("message").await;
        assert_eq!(frame["message"], sent);
        frame["cursor"].clone()
    };
    at_patient.close().await;
    inbox.close().await;
    while at_doctor.expect_presence().await["online"] != false {}
    let missed = doctor.send_ok(&patient, "missed").await;
    let mut at_patient = patient.resume(&doctor, &cursor).await;
    assert_eq!(at_patient.next().await["resumed"], true);
    assert_eq!(at_patient.expect("message").await["message"], missed);
    while at_doctor.expect_presence().await["online"] != true {}
    let asked = doctor.get(&format!("/chat/presence?location_id={}&contact_id={unique}", place.location)).await;
    assert_eq!(asked.expect_status(200)["participants"][0]["online"], true);

    // A ticket is good, once.
    let given = place.ask(patient.request(Method::POST, "/chat/ws-ticket")).await.expect_status(200);
    let url = format!("{second}?{}&ticket={}", patient.with(&doctor), given["ticket"].as_str().unwrap());
    let mut by_ticket = Socket::connect_with(&url, &[]).await.unwrap();
    assert_eq!(by_ticket.next().await["type"], "ready");
    assert!(Socket::connect_with(&url, &[]).await.is_err());

    // Foreign values under the keys of this system are moved away.
    let leases = format!("presence:{{{}}}:gateways", place.location);
    let conversation = doctor.history(&patient, "").await["conversation_id"].as_str().unwrap().to_owned();
    let log = format!("chat:{{{}:{conversation}}}:log", place.location);
    for key in ["receipts", "audit", "conversation_checks", &leases, &log] {
        redis.ask(&["DEL", key]);
        assert_eq!(redis.ask(&["SET", key, "nobody's"]), "OK", "{key}");
    }
    redis.wait_for("zset", &["TYPE", &leases]);
    for key in ["receipts", "audit", "conversation_checks"] {
        redis.wait_for("stream", &["TYPE", key]);
    }
    doctor.send_ok(&patient, "after that").await;
    redis.wait_for("stream", &["TYPE", &log]);

    // An empty Redis is filled again. Sockets that are open meanwhile would get `resync`.
    for socket in [at_doctor, at_patient, by_ticket] {
        socket.close().await;
    }
    redis.ask(&["FLUSHALL"]);
    redis.wait_for("zset", &["TYPE", "revoked"]);
    let mut at_doctor = doctor.open(&patient).await;
    let mut at_patient = patient.open(&doctor).await;
    chat(&doctor, &patient, &mut at_doctor, &mut at_patient).await;

    // A revocation reaches the gateways, and what has happened to sockets reaches the trail.
    let mut claims = token::claims("ehr-admin", "service", &[&place.location]);
    claims["admin"] = json!(true);
    let admin = place.service().with_token(place.sign(&claims));
    let body = json!({"sub": unique, "issued_before": "2100-01-01T00:00:00Z"});
    assert_eq!(place.ask(admin.request(Method::POST, "/admin/revocations").json(&body)).await.status, 204);
    assert_eq!(at_patient.expect_close().await, 4401);
    let ended = format!(
        "select count(*) > 0 from audit_log where action = 'socket.close' and outcome = 4401 and actor = 'contact:{unique}'"
    );
    until("the end of the socket is on record", async || crate::sql(&stack.env(), &ended) == "t").await;
}

/// One sends, the other one receives, and the receipts come back.
async fn chat(from: &TestUser, to: &TestUser, own: &mut Socket, others: &mut Socket) {
    let sent = from.send_ok(to, "hello").await;
    assert_eq!(others.expect("message").await["message"], sent);
    while own.expect("delivered").await["message_ids"] != json!([sent["id"]]) {}
    let _marked: Value = to.mark("read", &[&sent["id"]]).await.expect_status(200);
    own.expect("read").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_have_only_needed_redis_rights() {
    let _turn = crate::rotation::TURNS.acquire().await.unwrap();
    for is_cluster in [false, true] {
        let redis = Redis::start(is_cluster);
        let options = StackOptions { env: redis.env(is_cluster), ..StackOptions::default() };
        let stack = tokio::task::spawn_blocking(|| Stack::start(options).unwrap()).await.unwrap();
        everything(&redis, &stack).await;
        let refused = redis.ask(&["ACL", "LOG"]);
        assert_eq!(refused, "", "something that the services do is refused");

        for (service, commands) in
            [("ws-gateway", REFUSED_TO_GATEWAYS), ("ws-gateway", REFUSED_TO_BOTH), ("api-service", REFUSED_TO_BOTH)]
        {
            for words in commands {
                let answer = redis.ask_as(service, words);
                let is_refused = answer.starts_with("NOPERM")
                    || answer.contains("The user executing the script can't")
                    // A script that names a foreign key of another slot.
                    || is_cluster && answer.contains("Script attempted to access");
                assert!(is_refused, "{service}, {words:?}: {answer}");
            }
        }
        let url = format!("redis://127.0.0.1:{}", redis.port);
        assert!(redis.ask_at(&url, &["PING"]).starts_with("NOAUTH"), "no client gets in without a password");
        stack.stop().unwrap();
    }
}
