//! A client over its limit gets 429 with `Retry-After`; no other client is affected.

use std::time::Duration;

use e2e::audit::AuditLog;
use e2e::{HttpResponse, Socket, TestLocation, TestUser};
use reqwest::Method;
use stack::{Stack, StackOptions};
use tokio_tungstenite::tungstenite::Error;

use crate::{ADDRESS_BURST, CONTACT_SENDS_BURST, FAILURES_BURST, PARTICIPANT_BURST, metric, place};

fn retry_after(answer: &HttpResponse) -> u64 {
    answer.expect_code(429, "rate_limited");
    let seconds = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{answer:?}");
    seconds
}

/// Asks until it is refused. Returns how often it was answered, and the refusal.
async fn exhaust(person: &TestUser) -> (usize, HttpResponse) {
    for answered in 0.. {
        let answer = person.get(&format!("/chat/conversations?location_id={}", person.place.location)).await;
        if answer.status != 200 {
            return (answered, answer);
        }
        assert!(answered < 20 * PARTICIPANT_BURST, "no request is ever rejected");
    }
    unreachable!()
}

#[tokio::test]
async fn participant_over_limit_gets_429_alone() {
    let place = place();
    let (busy, patient) = (place.user("busy"), place.contact("pat"));
    let (answered, refusal) = exhaust(&busy).await;
    assert!(answered >= PARTICIPANT_BURST, "only {answered} were answered");
    let seconds = retry_after(&refusal);
    // On every route and instance it is one participant.
    let elsewhere =
        busy.with_token(place.sign(&e2e::token::claims("busy", "user", &[&place.location, "loc-elsewhere"])));
    retry_after(&exhaust(&elsewhere).await.1);
    let sent = elsewhere.send(&elsewhere.message_to(&patient, "hello")).await;
    assert!(sent.status == 429 || sent.status == 201, "{sent:?}");
    // Others, a namesake among them, are served.
    let _page = place.contact("busy").inbox("").await;
    let _page = patient.inbox("").await;
    assert!(metric(&place, r#"ehr_chat_rate_limited_total{kind="participant"}"#).await >= 2.0);
    // And it is served again after `Retry-After`.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(busy.get(&format!("/chat/conversations?location_id={}", place.location)).await.status, 200);
}

#[tokio::test]
async fn contact_over_send_limit_gets_429_for_sends_only() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("flood"));
    let body = patient.message_to(&doctor, "hello");
    let mut sent = 0;
    let refusal = loop {
        let answer = patient.send(&body).await;
        if answer.status != 201 {
            break answer;
        }
        sent += 1;
        assert!(sent < 2 * CONTACT_SENDS_BURST, "no request is ever rejected");
    };
    assert!(sent >= CONTACT_SENDS_BURST, "only {sent} were written");
    let seconds = retry_after(&refusal);
    assert!(metric(&place, r#"ehr_chat_rate_limited_total{kind="contact_sends"}"#).await >= 1.0);
    // It reads, and users send as they please.
    let page = patient.history(&doctor, "&limit=200").await;
    assert_eq!(page["messages"].as_array().unwrap().len(), sent, "what was refused was not written");
    for number in 0..2 * CONTACT_SENDS_BURST {
        doctor.send_ok(&place.contact("quiet"), &number.to_string()).await;
    }
    // Who has sent too often is on record, as with every limit.
    let trail = e2e::audit::AuditLog::open(&place.env.database_url).await;
    let on_record = "select from audit_log where actor = 'contact:flood' and action = 'send' and outcome = 429";
    let recorded = async { while trail.client.query(on_record, &[]).await.unwrap().is_empty() {} };
    tokio::time::timeout(e2e::WAIT_TIMEOUT, recorded).await.expect("the refusal is on record");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    assert_eq!(patient.send(&body).await.status, 201, "it is served again after Retry-After");
}

#[tokio::test]
async fn presence_request_is_charged_per_participants() {
    let place = place();
    let busy = place.user("curious");
    let names: String = (0..100).map(|number| format!("&contact_id=p{number}")).collect();
    let query = format!("/chat/presence?location_id={}{names}", place.location);
    let mut answered = 0;
    let refusal = loop {
        let answer = busy.get(&query).await;
        if answer.status != 200 {
            break answer;
        }
        answered += 1;
        assert!(answered < PARTICIPANT_BURST / 2, "it counts as one");
    };
    retry_after(&refusal);
    let _page = place.contact("curious").inbox("").await;
}

#[tokio::test]
async fn address_over_limit_gets_429_before_authentication() {
    let place = place();
    // As the proxy that it trusts, which names an address that no other test uses.
    let api = place.with_base_url(&place.env.api_urls[0]);
    let ask = |path: &'static str, address: &'static str| {
        api.ask(api.request(Method::GET, path).header("x-forwarded-for", address))
    };
    let mut answered = 0;
    let refusal = loop {
        let answer = ask("/chat/history", "203.0.113.9").await;
        if answer.status != 401 {
            break answer;
        }
        answered += 1;
        assert!(answered < 20 * ADDRESS_BURST, "no request is ever rejected");
    };
    assert!(answered >= ADDRESS_BURST, "only {answered} were answered");
    retry_after(&refusal);
    assert_eq!(ask("/chat/history", "203.0.113.10").await.status, 401);
    // Load balancers ask for health from one address, all the time.
    assert_eq!(ask("/readyz", "203.0.113.9").await.status, 200);
    assert!(metric(&place, r#"ehr_chat_rate_limited_total{kind="address"}"#).await >= 1.0);
}

#[tokio::test]
async fn token_guessing_gets_429_for_its_network_only() {
    let place = place();
    let api = place.with_base_url(&place.env.api_urls[0]);
    let ask = |token: String| {
        let request = api.request(Method::GET, "/chat/conversations?location_id=x").bearer_auth(token);
        api.ask(request.header("x-forwarded-for", "203.0.113.77"))
    };
    let mut refused = Vec::new();
    for guess in 0..3 * FAILURES_BURST {
        let answer = ask(format!("guess-{guess}")).await;
        match answer.status {
            401 => drop(answer.expect_problem(401)),
            _ => refused.push(retry_after(&answer)),
        }
    }
    assert!(refused.len() > FAILURES_BURST && refused.len() <= 2 * FAILURES_BURST, "{}", refused.len());
    // A good token from the same address is still good; this one is for another location.
    assert_eq!(ask(place.user("honest").token).await.status, 403);
}

/// Asks for what nothing answers, until that is refused for being asked too often. Returns how often it was answered.
async fn ask_in_vain(most: usize, ask: impl AsyncFn(usize) -> (u16, HttpResponse)) -> usize {
    for answered in 0..most {
        let (expected, answer) = ask(answered).await;
        if answer.status == 429 {
            retry_after(&answer);
            return answered;
        }
        let _problem = answer.expect_problem(expected);
    }
    panic!("no request is ever rejected");
}

/// Unknown paths, and methods that a path does not have.
const IN_VAIN: [(&str, &str, u16); 4] =
    [("GET", "/nowhere", 404), ("POST", "/chat", 404), ("DELETE", "/chat/history", 405), ("OPTIONS", "/nowhere", 404)];

#[tokio::test]
async fn unknown_paths_count_for_token_holder() {
    let place = place();
    let (lost, namesake) = (place.user("lost"), place.contact("lost"));
    let ask = async |number: usize| {
        let (method, path, expected) = IN_VAIN[number % IN_VAIN.len()];
        (expected, place.ask(lost.request(method.parse().unwrap(), path)).await)
    };
    let answered = ask_in_vain(20 * PARTICIPANT_BURST, ask).await;
    assert!(answered >= PARTICIPANT_BURST, "only {answered} were answered");
    let refused = lost.get(&format!("/chat/conversations?location_id={}", place.location)).await;
    assert!(refused.status == 429 || refused.status == 200, "{refused:?}");
    let _page = namesake.inbox("").await;
    assert_eq!(place.get("/nowhere").await.status, 404, "others get 404");
}

#[tokio::test]
async fn unknown_paths_count_for_address_without_token() {
    const BURST: usize = 50;
    let env = [("RATE_LIMIT_NO_TOKEN", BURST), ("RATE_LIMIT_FAILURES", BURST / 2)];
    let env = env.iter().flat_map(|(name, burst)| {
        [(format!("{name}_PER_SECOND"), "1".to_owned()), (format!("{name}_BURST"), burst.to_string())]
    });
    let options = StackOptions { api: 1, gateways: 1, env: env.collect(), ..StackOptions::default() };
    let stack = tokio::task::spawn_blocking(|| Stack::start(options)).await.unwrap().unwrap();
    let place = TestLocation::new(&stack);
    let api = place.with_base_url(&place.env.api_urls[0]);
    let ask = async |number: usize, address: &str, token: Option<String>| {
        let (method, path, expected) = IN_VAIN[number % IN_VAIN.len()];
        let request = api.request(method.parse().unwrap(), path).header("x-forwarded-for", address);
        (expected, api.ask(token.into_iter().fold(request, |request, token| request.bearer_auth(token))).await)
    };
    let answered = ask_in_vain(20 * BURST, async |number| ask(number, "203.0.113.41", None).await).await;
    assert!((BURST..4 * BURST).contains(&answered), "{answered}");
    // Guesses have a bucket of their own.
    let guess = async |number: usize| ask(number, "203.0.113.41", Some(format!("guess-{number}"))).await;
    let answered = ask_in_vain(20 * BURST, guess).await;
    assert!((BURST / 2..4 * BURST).contains(&answered), "{answered}");
    // A good token from there is still good, and so is another address.
    let good = place.user("honest").token;
    assert_eq!(ask(0, "203.0.113.41", Some(good)).await.1.status, 404);
    assert_eq!(ask(0, "203.0.113.42", None).await.1.status, 404);
    stack.stop().unwrap();
}

#[tokio::test]
async fn socket_over_limit_is_closed_with_4429() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(doctor.open(&patient).await);
    }
    let mut fourth = doctor.open_at(&doctor.with(&patient)).await;
    assert_eq!(fourth.expect_close().await, 4429);
    // Those that were there stay, and others come.
    let mut at_patient = patient.open(&doctor).await;
    let sent = doctor.send_ok(&patient, "hello").await;
    for socket in open.iter_mut().chain([&mut at_patient]) {
        assert_eq!(socket.expect("message").await["message"], sent);
    }
}

#[tokio::test]
async fn handshakes_count_for_address() {
    let place = place();
    let doctor = place.user("doc");
    let url = format!("{}?{}", place.env.gateway_ws_urls[0], doctor.with(&place.contact("pat")));
    for asked in 0.. {
        assert!(asked < 20 * ADDRESS_BURST, "no request is ever rejected");
        let headers = [("x-forwarded-for", "203.0.113.11")];
        let Err(Error::Http(answer)) = Socket::connect_with(&url, &headers).await else { panic!("without a token?") };
        if answer.status() == 429 {
            assert!(asked >= ADDRESS_BURST, "{asked}");
            assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
            break;
        }
        assert_eq!(answer.status(), 401);
    }
}

#[tokio::test]
async fn overlong_query_gets_414() {
    let place = place();
    let doctor = place.user("doc");
    let query = format!("location_id={}&x={}", place.location, "y".repeat(5_000));
    let _problem = doctor.get(&format!("/chat/conversations?{query}")).await.expect_problem(414);
    let _problem = crate::secrecy::handshake(&place, &query, &doctor.token).await.expect_problem(414);
}

/// How many rows the trail has of an address, and how many refusals they stand for, once those are as many as expected.
async fn rows_of(trail: &AuditLog, source: &str, expected: i64) -> i64 {
    let query = "select coalesce(sum(times), 0), count(*) from audit_log where source = $1 and outcome in (401, 429)";
    let mut counts = (0, 0);
    let counted = async {
        while counts.0 != expected {
            let row = trail.client.query_one(query, &[&source]).await.unwrap();
            counts = (row.get::<_, i64>(0), row.get::<_, i64>(1));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        counts.1
    };
    tokio::time::timeout(2 * e2e::WAIT_TIMEOUT, counted)
        .await
        .unwrap_or_else(|_| panic!("not all {expected} are counted"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anonymous_flood_gets_429_and_few_audit_rows() {
    const BURST: usize = 60;
    let env = [("RATE_LIMIT_NO_TOKEN_PER_SECOND", "1".to_owned()), ("RATE_LIMIT_NO_TOKEN_BURST", BURST.to_string())];
    let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let start = move || Stack::start(StackOptions { api: 1, gateways: 1, env, ..StackOptions::default() }).unwrap();
    let stack = tokio::task::spawn_blocking(start).await.unwrap();
    let (place, trail) = (TestLocation::new(&stack), AuditLog::open(&stack.env().database_url).await);
    let api = place.with_base_url(&place.env.api_urls[0]);
    let mut refused = [0_usize; 2];
    for number in 0..10 * BURST {
        let path = ["/chat/history", "/chat/conversations", "/chat/presence"][number % 3];
        match api.ask(api.request(Method::GET, path).header("x-forwarded-for", "203.0.113.31")).await.status {
            401 => refused[0] += 1,
            429 => refused[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused[0] >= BURST && refused[1] > BURST, "{refused:?}");
    let rows = rows_of(&trail, "203.0.113.31", 10 * BURST as i64).await;
    assert!(rows <= 45, "{rows} rows for {} refusals", 10 * BURST);
    // A bad token from there still gets the reason.
    let guess =
        api.request(Method::GET, "/chat/history").bearer_auth("guess").header("x-forwarded-for", "203.0.113.31");
    assert_eq!(api.ask(guess).await.status, 401);

    let url = format!("{}?{}", place.env.gateway_ws_urls[0], place.user("doc").with(&place.contact("pat")));
    let mut refused = [0_usize; 2];
    for _ in 0..5 * BURST {
        match Socket::connect_with(&url, &[("x-forwarded-for", "203.0.113.32")]).await {
            Err(Error::Http(answer)) if answer.status() == 401 => refused[0] += 1,
            Err(Error::Http(answer)) if answer.status() == 429 => refused[1] += 1,
            _ => panic!("without a token?"),
        }
    }
    assert!(refused[0] >= BURST && refused[1] > BURST, "{refused:?}");
    let rows = rows_of(&trail, "203.0.113.32", 5 * BURST as i64).await;
    assert!(rows <= 45, "{rows} rows for {} handshakes", 5 * BURST);
    stack.stop().unwrap();
}
