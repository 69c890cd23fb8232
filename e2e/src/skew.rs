//! Two versions together, as during an upgrade and its rollback. One system goes through both, with the new schema throughout; one
//! conversation goes on from stage to stage. A service is replaced in place: its program changes and the process restarts.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use stack::{Signal, Stack, StackOptions};
use tokio::time::{interval, timeout};

use crate::{Socket, TestLocation, TestUser, WAIT_TIMEOUT};

const GATEWAYS: usize = 2;
/// Both kinds of keys, so that what one version encrypts is read by the other.
const KEYS: [(&str, &str); 3] = [
    ("CONTENT_KEYS", "content-skew:q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA="),
    ("RELAY_KEYS", "relay-skew:EjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8="),
    ("RELAY_UNSEALED", "refuse"),
];

/// The folder of a version's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Old,
    New,
}

/// Upgrade: gateways, then API services. Rollback: the other way round.
const STAGES: [(&str, Version, Version); 5] = [
    ("old API services, old gateways, migrated", Version::Old, Version::Old),
    ("old API services, new gateways", Version::Old, Version::New),
    ("new API services, new gateways", Version::New, Version::New),
    ("new API services, old gateways", Version::New, Version::Old),
    ("old API services, old gateways, rolled back", Version::Old, Version::Old),
];

/// Goes through all stages with the programs in both folders, without and with keys.
///
/// # Errors
/// When a system does not start, or a service does not come back. What does not work panics.
pub async fn run(old: &Path, new: &Path) -> Result<()> {
    for (name, keys) in [("without keys", &KEYS[..0]), ("with keys", &KEYS[..])] {
        let mut upgrade = Upgrade::start(old, new, keys)?;
        let mut chat = Chat::new(&TestLocation::new(&upgrade.stack));
        for (stage, api, gateway) in STAGES {
            upgrade.replace("ws-gateway", gateway).await?;
            upgrade.replace("api-service", api).await?;
            chat.go_on().await;
            println!("{stage}, {name}: passed");
        }
        upgrade.stack.stop()?;
        std::fs::remove_dir_all(&upgrade.folder)?;
    }
    Ok(())
}

/// A system whose programs are links that can be pointed to either version.
struct Upgrade {
    stack: Stack,
    folder: PathBuf,
    old: PathBuf,
    new: PathBuf,
    api: Version,
    gateway: Version,
}

impl Upgrade {
    fn start(old: &Path, new: &Path, keys: &[(&str, &str)]) -> Result<Self> {
        let found = |folder: &Path| folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()));
        let (old, new) = (found(old)?, found(new)?);
        let folder = std::env::temp_dir().join(format!("ehr-chat-skew-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        for program in ["api-service", "ws-gateway"] {
            symlink(old.join(program), folder.join(program))?;
        }
        let stack = Stack::start(StackOptions {
            gateways: GATEWAYS,
            env: keys.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
            profile_dir: Some(folder.clone()),
            migrate_dir: Some(new.clone()),
            ..StackOptions::default()
        })?;
        Ok(Self { stack, folder, old, new, api: Version::Old, gateway: Version::Old })
    }

    /// Restarts one kind of service as another version, one process after the other.
    async fn replace(&mut self, program: &str, version: Version) -> Result<()> {
        let is_api = program == "api-service";
        let running = if is_api { &mut self.api } else { &mut self.gateway };
        if *running == version {
            return Ok(());
        }
        *running = version;
        let target = match version {
            Version::Old => self.old.join(program),
            Version::New => self.new.join(program),
        };
        std::fs::remove_file(self.folder.join(program))?;
        symlink(&target, self.folder.join(program))?;
        for index in 0..if is_api { 1 } else { GATEWAYS } {
            let pid = |env: &stack::StackEnv| if is_api { env.api_pids[index] } else { env.gateway_pids[index] };
            let before = pid(&self.stack.env());
            self.stack.kill(before, Signal::SIGTERM)?;
            let env = self.stack.wait_until(WAIT_TIMEOUT, |env| pid(env) != before)?;
            let runs = std::fs::read_link(format!("/proc/{}/exe", pid(&env)))?;
            ensure!(runs == target, "{} runs in place of {}", runs.display(), target.display());
        }
        self.until_served().await;
        Ok(())
    }

    /// HAProxy sees by its checks that a service is back, and tells no client.
    async fn until_served(&self) {
        let place = TestLocation::new(&self.stack);
        let (doctor, patient) = (place.user("doc"), place.contact("pat"));
        let bearer = format!("Bearer {}", doctor.token);
        let url = format!("{}?{}", place.ws_url, doctor.with(&patient));
        let asking = async {
            let mut beat = interval(Duration::from_millis(50));
            loop {
                beat.tick().await;
                let answers = place.try_get("/readyz").await.status == 200;
                if answers && Socket::connect_with(&url, &[("authorization", &bearer)]).await.is_ok() {
                    return;
                }
            }
        };
        timeout(WAIT_TIMEOUT, asking).await.expect("the services are ready again");
    }
}

/// One conversation that goes on through all stages.
struct Chat {
    doctor: TestUser,
    patient: TestUser,
    /// All contents, in order.
    sent: Vec<String>,
    /// Where the patient's last socket ended, and how many messages came after it.
    left_at: Option<(Value, usize)>,
}

impl Chat {
    fn new(place: &TestLocation) -> Self {
        Self { doctor: place.user("doc"), patient: place.contact("pat"), sent: Vec::new(), left_at: None }
    }

    async fn send(&mut self) -> Value {
        let content = format!("message {}", self.sent.len() + 1);
        let message = self.doctor.send_ok(&self.patient, &content).await;
        self.sent.push(content);
        message
    }

    /// Everything that clients do, once: resume, receive, receipts, typing, inbox, ticket, history.
    async fn go_on(&mut self) {
        let mut at_doctor = self.doctor.open(&self.patient).await;
        let mut at_patient = self.come_back().await;

        let message = self.send().await;
        let received = at_patient.expect("message").await;
        assert_eq!(received["message"]["id"], message["id"]);
        assert_eq!(received["message"]["content"], message["content"]);
        until_receipt(&mut at_doctor, "delivered", &message["id"]).await;
        let _marked = self.patient.mark("read", &[&message["id"]]).await.expect_status(200);
        until_receipt(&mut at_doctor, "read", &message["id"]).await;
        at_patient.send(&json!({"type": "typing"}));
        at_doctor.expect("typing").await;

        let mut inbox = self.patient.open_at(&self.patient.inbox_query()).await;
        assert_eq!(inbox.next().await["type"], "ready");
        let _second = self.send().await;
        let last = at_patient.expect("message").await;
        let row = inbox.expect("conversation").await;
        assert!(row.to_string().contains(self.sent.last().unwrap().as_str()), "{row}");
        let inbox_page = self.patient.inbox("").await;
        assert_eq!(inbox_page["conversations"].as_array().map(Vec::len), Some(1), "{inbox_page}");

        let place = &self.patient.place;
        let given = place.ask(self.patient.request(Method::POST, "/chat/ws-ticket")).await.expect_status(200);
        let query = format!("{}&ticket={}", self.patient.with(&self.doctor), given["ticket"].as_str().unwrap());
        let mut by_ticket = Socket::connect_with(&format!("{}?{query}", place.ws_url), &[]).await.unwrap();
        assert_eq!(by_ticket.next().await["type"], "ready");

        let mut messages = self.doctor.messages(&self.patient).await;
        messages.sort_by_key(|message| message["seq"].as_u64());
        let stored: Vec<_> = messages.iter().map(|message| message["content"].as_str().unwrap()).collect();
        assert_eq!(stored, self.sent);

        for socket in [at_patient, at_doctor, inbox, by_ticket] {
            socket.close().await;
        }
        // While the patient is away; the next stage has to deliver these.
        for _ in 0..3 {
            self.send().await;
        }
        self.left_at = Some((last["cursor"].clone(), 3));
    }

    /// A socket that resumes where the last stage ended, past what came meanwhile.
    async fn come_back(&self) -> Socket {
        let Some((cursor, missed)) = &self.left_at else { return self.patient.open(&self.doctor).await };
        let mut socket = self.patient.resume(&self.doctor, cursor).await;
        let ready = socket.next().await;
        assert_eq!((&ready["type"], &ready["resumed"]), (&json!("ready"), &json!(true)), "{ready}");
        for content in &self.sent[self.sent.len() - missed..] {
            assert_eq!(socket.expect("message").await["message"]["content"], *content);
        }
        socket
    }
}

/// Waits for a receipt of this message. Those of earlier messages may come before it.
async fn until_receipt(socket: &mut Socket, kind: &str, id: &Value) {
    while !socket.expect(kind).await["message_ids"].as_array().unwrap().contains(id) {}
}
