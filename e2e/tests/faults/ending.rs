//! A stopping service ends in time even if its servers hang: one deadline holds for all that is left to do.

use std::time::{Duration, Instant};

use e2e::chaos::FaultProxy;
use stack::Signal;

use crate::service_process::ServiceProcess;
use crate::test_env;

const DRAIN: u64 = 1;
const TIMEOUT: u64 = 6;
/// Less than a second deadline after the first would take.
const MARGIN: Duration = Duration::from_secs(4);

#[tokio::test]
async fn services_stop_in_time_when_databases_hang() {
    let test_env = test_env().await;
    let (env, place) = (test_env.stack.env(), &test_env.place);
    let (drain, timeout) = (DRAIN.to_string(), TIMEOUT.to_string());
    let (postgresql, redis) =
        (FaultProxy::to(&env.service_database_url).await.unwrap(), FaultProxy::to(&env.redis_url).await.unwrap());
    let (database_url, redis_url) =
        (postgresql.through(&env.service_database_url).unwrap(), redis.through(&env.redis_url).unwrap());
    let settings = [("DRAIN_SECONDS", &*drain), ("SHUTDOWN_TIMEOUT_SECONDS", &*timeout), ("REDIS_URL", &*redis_url)];
    let gateway = ServiceProcess::start("ws-gateway", &env, &settings);
    let api =
        ServiceProcess::start("api-service", &env, &[&settings[..], &[("DATABASE_URL", &*database_url)]].concat());
    api.until_ready(place).await;
    gateway.until_ready(place).await;
    let ws_url = format!("{}/ws", gateway.public_url.replace("http", "ws"));
    let (doctor, patient) =
        (place.user("doc").at(&api.public_url, &ws_url), place.contact("pat").at(&api.public_url, &ws_url));
    let sent = doctor.send_ok(&patient, "before").await;
    let socket = patient.open(&doctor).await;
    postgresql.silence();
    redis.silence();
    // A send, a page and a receipt that cannot be finished.
    socket.send(&serde_json::json!({"type": "read", "message_ids": [sent["id"]]}));
    let (sender, reader, to) = (doctor.clone(), doctor.clone(), patient.clone());
    let hanging = [
        tokio::spawn(async move {
            sender.try_send(&sender.message_to(&to, "hangs")).await.map(|answer| answer.status).ok()
        }),
        tokio::spawn(async move {
            let page = reader.request(reqwest::Method::GET, &format!("/chat/history?{}", reader.with(&patient)));
            page.send().await.map(|response| response.status().as_u16()).ok()
        }),
    ];
    // They have arrived: the admin port counts them.
    let admin = place.with_base_url(&api.admin_url);
    let arriving = async {
        loop {
            let metrics = admin.get("/metrics").await.text;
            let in_flight = metrics.lines().find_map(|line| line.strip_prefix("ehr_chat_http_requests_in_flight "));
            if in_flight.is_some_and(|count| count.parse::<f64>().unwrap() >= 2.0)
                || hanging.iter().all(|one| one.is_finished())
            {
                return;
            }
        }
    };
    tokio::time::timeout(e2e::WAIT_TIMEOUT, arriving).await.expect("requests arrive");

    let began = Instant::now();
    for service in [&api, &gateway] {
        service.signal(Signal::SIGTERM);
    }
    let ended = tokio::task::spawn_blocking(move || {
        let api = api.end();
        let api_took = began.elapsed();
        let gateway = gateway.end();
        [(api, api_took), (gateway, began.elapsed())]
    });
    let [((api, output), api_took), ((gateway, gateway_said), gateway_took)] = ended.await.unwrap();
    assert!(api.success(), "{api}: {output}");
    assert!(gateway.success(), "{gateway}: {gateway_said}");
    assert!(api_took < Duration::from_secs(DRAIN + TIMEOUT) + MARGIN, "{api_took:?}: {output}");
    // Its drain is within its deadline.
    assert!(gateway_took < Duration::from_secs(DRAIN + TIMEOUT) + MARGIN, "{gateway_took:?}: {gateway_said}");
    for status in hanging {
        assert_ne!(status.await.unwrap(), Some(201), "no send is acknowledged that is not on disk");
    }
    test_env.stack.stop().unwrap();
}
