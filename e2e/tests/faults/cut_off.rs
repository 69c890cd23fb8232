//! One API service of several cannot reach PostgreSQL. What the others revoke holds there as well: it learns that from Redis.

use e2e::chaos::{AfterPartition, FaultProxy};
use e2e::{TestLocation, TestUser, WAIT_TIMEOUT};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::revocations::{doctor_with, revoke};
use crate::service_process::ServiceProcess;
use crate::{test_env, until};

/// The response of an API service to a read of the inbox.
async fn look(place: &TestLocation, person: &TestUser, url: &str) -> e2e::HttpResponse {
    let path = format!("/chat/conversations?location_id={}", place.location);
    place.ask(person.at(url, &place.ws_url).request(Method::GET, &path)).await
}

/// It refuses the token. Until it has learnt that, it can serve no request.
async fn until_refused(place: &TestLocation, person: &TestUser, url: &str) {
    let asking = async {
        loop {
            match look(place, person, url).await.status {
                401 => return,
                status => assert_eq!(status, 503),
            }
        }
    };
    timeout(WAIT_TIMEOUT, asking).await.expect("a service that is cut off refuses the token");
}

#[tokio::test]
async fn revocation_reaches_api_service_without_postgresql() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let link = FaultProxy::to(&env.service_database_url).await.unwrap();
    let url = link.through(&env.service_database_url).unwrap();
    let alone = ServiceProcess::start("api-service", &env, &[("DATABASE_URL", &url)]);
    alone.until_ready(place).await;
    let good = place.user("doc");
    assert_eq!(look(place, &good, &alone.public_url).await.status, 200);

    link.silence();
    let mut gone = Vec::new();
    for _ in 0..3 {
        let jti = uuid::Uuid::now_v7().to_string();
        revoke(place, &json!({"jti": jti})).await;
        let person = doctor_with(place, &jti);
        until_refused(place, &person, &alone.public_url).await;
        gone.push(person);
        // The next one is in a copy that was rewritten, in another order.
        crate::failed_and_deferred::redis(&env, &[b"DEL", b"revoked"]).await;
    }
    let of_subject = place.user("fired");
    revoke(place, &json!({"sub": "fired", "issued_before": "2030-01-01T00:00:00Z"})).await;
    until_refused(place, &of_subject, &alone.public_url).await;
    gone.push(of_subject);

    link.restore(AfterPartition::Reset);
    until(200, async || look(place, &good, &alone.public_url).await).await;
    for url in env.api_urls.iter().chain([&alone.public_url]) {
        for person in &gone {
            assert_eq!(look(place, person, url).await.status, 401, "{url}");
        }
    }
    test_env.stack.stop().unwrap();
}
