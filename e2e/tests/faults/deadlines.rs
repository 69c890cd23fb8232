//! PostgreSQL is slow: reads get 503 from the service before the balancer gives up.

use e2e::WAIT_TIMEOUT;
use e2e::audit::AuditLog;
use futures_util::future::join_all;
use reqwest::Method;
use tokio::time::timeout;

use crate::{test_env, until};

/// Each attempt to write the trail takes seconds, and fails such that it is tried again.
const SLOW: &str = "create function be_slow() returns trigger language plpgsql as $$
    begin
        perform pg_sleep(3.5);
        raise exception 'once more' using errcode = 'serialization_failure';
    end $$;
    create trigger be_slow before insert on audit_log for each statement execute function be_slow()";

#[tokio::test]
async fn slow_reads_get_503_before_balancer_timeout() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "before").await;
    let owner = AuditLog::open(&test_env.stack.env().database_url).await;
    owner.client.batch_execute(SLOW).await.unwrap();
    let inbox = format!("/chat/conversations?location_id={}", place.location);
    let history = format!("/chat/history?{}", doctor.with(&patient));
    let presence = format!("/chat/presence?location_id={}&contact_id={}", place.location, patient.id);
    let paths = [
        (Method::GET, inbox.as_str()),
        (Method::GET, &history),
        (Method::GET, &presence),
        (Method::POST, "/chat/ws-ticket"),
    ];
    // Of each as many as there are services: both are asked for all.
    let asked = paths.iter().flat_map(|path| [path, path]).map(|(method, path)| {
        let request = doctor.request(method.clone(), path);
        async move { (path, e2e::HttpResponse::read(request.send().await.unwrap()).await) }
    });
    for (path, answer) in timeout(WAIT_TIMEOUT, join_all(asked)).await.unwrap() {
        assert!(answer.header("retry-after").is_some(), "{path}: {answer:?}");
        answer.expect_code(503, "deadline_exceeded"); // The balancer would say 504.
    }
    owner.client.batch_execute("drop trigger be_slow on audit_log").await.unwrap();
    until(200, async || e2e::HttpResponse::read(doctor.request(Method::GET, &inbox).send().await.unwrap()).await).await;
    test_env.stack.stop().unwrap();
}
