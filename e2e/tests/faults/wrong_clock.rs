//! API services whose clocks are wrong. What they send and mark has the times of the database, in order with all others.

use std::process::Command;

use e2e::{TestLocation, TestUser, token};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::service_process::ServiceProcess;
use crate::test_env;

/// As far as a clock is off, in seconds: much more than tokens bear.
const OFF: i64 = 600;

/// Good by each of the clocks.
fn bearing(place: &TestLocation, person: &TestUser) -> TestUser {
    let claims = token::claims(&person.id, person.role.as_str(), &[&place.location]);
    let claims = token::with(claims, "iat", json!(token::now() - 2 * OFF));
    person.with_token(place.sign(&token::with(claims, "exp", json!(token::now() + 4 * OFF))))
}

fn moment(of: &Value, name: &str) -> OffsetDateTime {
    OffsetDateTime::parse(of[name].as_str().unwrap_or_else(|| panic!("no {name}: {of}")), &Rfc3339).unwrap()
}

#[tokio::test]
async fn message_times_are_database_times_when_clock_is_wrong() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let library = test_env.stack.data_dir().join("wrong_clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/wrong_clock.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).output().unwrap();
    assert!(built.status.success(), "{built:?}");
    let wrong = |seconds: i64| {
        let settings = [("LD_PRELOAD", library.to_str().unwrap()), ("WRONG_CLOCK_SECONDS", &*seconds.to_string())];
        ServiceProcess::start("api-service", &env, &settings)
    };
    let (ahead, behind) = (wrong(OFF), wrong(-OFF));
    // So they are as wrong as this test needs them, and each says so.
    let _said = ahead.until_said("ahead of the database's").await;
    let _said = behind.until_said("behind the database's").await;
    for one in [&ahead, &behind] {
        one.until_ready(place).await;
        let text = place.with_base_url(&one.admin_url).get("/readyz").await.json();
        assert!(text["detail"].as_str().unwrap().contains("this machine's clock is"), "{text}");
    }

    let (doctor, patient) = (bearing(place, &place.user("doc")), bearing(place, &place.contact("pat")));
    let began = OffsetDateTime::now_utc();
    let urls = [
        &env.api_urls[0],
        &ahead.public_url,
        &behind.public_url,
        &env.api_urls[1],
        &behind.public_url,
        &ahead.public_url,
    ];
    let mut sent = Vec::new();
    for url in urls {
        sent.push(doctor.at(url, &place.ws_url).send_ok(&patient, "tick").await);
    }
    let times: Vec<OffsetDateTime> = sent.iter().map(|message| moment(message, "sent_at")).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!(began <= times[0] && *times.last().unwrap() <= OffsetDateTime::now_utc(), "{began} {times:?}");

    // Delivered by the word of one clock, and read by that of the other: in either order.
    for (message, [delivers, reads]) in sent.iter().zip([[&ahead, &behind], [&behind, &ahead]]) {
        let at = |one: &ServiceProcess| patient.at(&one.public_url, &place.ws_url);
        let _marks = at(delivers).mark("delivered", &[&message["id"]]).await.expect_status(200);
        let marks = at(reads).mark("read", &[&message["id"]]).await.expect_status(200);
        let marked = &marks["marked"][0];
        let times = [moment(message, "sent_at"), moment(marked, "delivered_at"), moment(marked, "read_at")];
        assert!(times.is_sorted() && times[2] <= OffsetDateTime::now_utc(), "{times:?}");
    }
    test_env.stack.stop().unwrap();
}
