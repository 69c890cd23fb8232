//! The row of a data key is gone: what it sealed is lost, and everything else works.

use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Stdio};

use e2e::{TestLocation, secret_text};
use stack::StackEnv;

use crate::keys::Keys;
use crate::{place, service, sql, stack, until};

/// An API service that was started by the test, so that it has no key at hand. Ends with the value.
struct Newcomer {
    process: Child,
    url: String,
    admin: String,
    log: std::path::PathBuf,
}

impl Newcomer {
    async fn start(env: &StackEnv) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let (address, admin) = (free(), free());
        let log = std::env::temp_dir().join(format!("e2e-lost-key-{}", uuid::Uuid::now_v7().simple()));
        let mut command = service("api-service", env);
        command.arg("serve").envs(Keys::new("m1").env("r1")).env("AUDIT_KEY", &env.audit_key).env("LOG_LEVEL", "info");
        command.env("DATABASE_URL", &env.service_database_url).env("LISTEN_ADDR", &address).env("ADMIN_ADDR", &admin);
        let process = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let newcomer = Self { process, url: format!("http://{address}"), admin: format!("http://{admin}"), log };
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let readiness = format!("{}/readyz", newcomer.url);
        until("it is ready", async || http.get(&readiness).send().await.is_ok_and(|answer| answer.status() == 200))
            .await;
        newcomer
    }

    async fn lost_texts(&self, place: &TestLocation) -> u64 {
        let metrics = place.with_base_url(&self.admin).get("/metrics").await.text;
        let metric = "ehr_chat_content_decrypt_failures_total{cause=\"no_key\"} ";
        metrics.lines().find_map(|line| line.strip_prefix(metric)).map_or(0, |value| value.parse().unwrap())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
        let _gone = std::fs::remove_file(&self.log);
    }
}

#[tokio::test]
async fn lost_data_key_affects_only_its_location() {
    let place = place().await;
    let (lost, env) = (place.other_location(), stack().env());
    let secret = secret_text();
    let kept = place.user("doc").send_ok(&place.contact("pat"), "kept").await;
    lost.user("doc").send_ok(&lost.contact("pat"), &secret).await;
    let key = sql(&env, &format!("delete from data_keys where location_id = '{}' returning id", lost.location));
    assert_eq!(key.lines().count(), 1, "{key}");

    let newcomer = Newcomer::start(&env).await;
    let [(doctor, patient), (other_doctor, other_patient)] = [&lost, &place]
        .map(|place| [place.user("doc"), place.contact("pat")].map(|person| person.at(&newcomer.url, &place.ws_url)))
        .map(|[doctor, patient]| (doctor, patient));
    let before = newcomer.lost_texts(&place).await;
    let page = format!("/chat/history?{}", doctor.with(&patient));
    let inbox = format!("/chat/conversations?location_id={}", lost.location);
    for answer in [doctor.get(&page).await, patient.get(&inbox).await] {
        let problem = answer.expect_problem(500);
        assert!(!problem.to_string().contains(&key), "the cause is for operators: {problem}");
        let request = problem["request_id"].as_str().unwrap();
        until("the log has the cause", async || {
            newcomer.log().lines().any(|line| line.contains(request) && line.contains(&key))
        })
        .await;
    }
    assert_eq!(newcomer.lost_texts(&place).await, before + 2);

    // Other locations are not affected, and that location goes on under a new key.
    assert_eq!(other_patient.messages(&other_doctor).await, [kept]);
    other_doctor.send_ok(&other_patient, &secret).await;
    let next = doctor.send_ok(&patient, &secret).await;
    let page = doctor.history(&patient, "&after=1").await;
    assert_eq!(page["messages"], serde_json::json!([next]));
    assert_eq!(sql(&env, &format!("select count(*) from data_keys where location_id = '{}'", lost.location)), "1");
    assert!(!newcomer.log().contains(&secret));
}
