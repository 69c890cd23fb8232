//! Clients that ask for much and read nothing of it.

use std::time::Duration;

use e2e::{TestLocation, TestUser, WAIT_TIMEOUT};
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, interval, timeout};

use crate::{test_env, until};

const CONNECTIONS: usize = 60;
/// Requests of a connection: their answers are more than the kernel holds for it.
const REQUESTS: usize = 20;
/// What an API service may grow by.
const MAX_GROWTH_BYTES: usize = 120 * 1024 * 1024;

fn memory_bytes(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// The sum of a metric of one API service, over all labels.
async fn metric(admin: &TestLocation, name: &str) -> f64 {
    let text = admin.get("/metrics").await.text;
    let values = text.lines().filter_map(|line| {
        let (named, value) = line.rsplit_once(' ')?;
        (named.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
    });
    values.sum()
}

/// Asks for the same page over and over, and takes nothing of the answers.
async fn ask_and_read_nothing(participant: &TestUser, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = participant.place.base_url.strip_prefix("http://").unwrap().parse().unwrap();
    let mut tcp = socket.connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", participant.token);
    tcp.write_all(request.repeat(REQUESTS).as_bytes()).await.unwrap();
    tcp
}

#[tokio::test]
async fn unread_responses_take_bounded_memory() {
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient, service) =
        (place.user("doc").at_one_service(), place.contact("pat").at_one_service(), place.service().at_one_service());
    let (pid, admin) = (place.env.api_pids[0], place.with_base_url(&place.env.admin_urls[0]));
    let longest = "\u{1F600}".repeat(8_000);
    for _ in 0..10 {
        futures_util::future::join_all((0..20).map(|_| doctor.send_ok(&patient, &longest))).await;
    }
    // What is read is as much as a page takes, and a little more.
    let page = doctor.history(&patient, "&limit=200").await;
    assert_eq!((page["messages"].as_array().unwrap().len(), &page["has_more"]), (17, &json!(true)));
    let before = memory_bytes(pid);

    let path = format!("/chat/history?{}&limit=200", doctor.with(&patient));
    // Persons and services have bounds of their own.
    let askers = [&doctor, &patient, &service];
    let opening = (0..CONNECTIONS).map(|number| ask_and_read_nothing(askers[number % askers.len()], &path));
    let held = futures_util::future::join_all(opening).await;
    let neighbours = (place.user("other").at_one_service(), place.contact("quiet").at_one_service());
    let mut most = 0;
    let refused = async {
        let mut beat = interval(Duration::from_millis(20));
        loop {
            beat.tick().await;
            most = most.max(memory_bytes(pid));
            // Sends are served meanwhile. Reads are served, or get 503 while these pages are made.
            neighbours.0.send_ok(&neighbours.1, "hello").await;
            let asked = doctor.place.ask(doctor.request(Method::GET, &path)).await;
            match asked.status {
                429 => return asked,
                200 => {}
                _ => drop(asked.expect_problem(503)),
            }
        }
    };
    let refused = timeout(3 * WAIT_TIMEOUT, refused).await.expect("those who do not read are refused");
    refused.expect_code(429, "responses_unread");
    assert!(metric(&admin, "ehr_chat_http_unsent_rejected_total").await > 0.0, "{refused:?}");
    let inbox = format!("/chat/conversations?location_id={}", place.location);
    let served = until(200, async || neighbours.1.get(&inbox).await).await;
    assert_eq!(served.json()["conversations"].as_array().unwrap().len(), 1);
    // They may do all else.
    doctor.send_ok(&patient, "hello").await;

    // In the end they are cut, which gives their memory back, and they are served again.
    let began = Instant::now();
    let cut = async {
        let mut beat = interval(Duration::from_millis(100));
        while metric(&admin, "ehr_chat_http_unsent_bytes").await > 0.0 {
            beat.tick().await;
            most = most.max(memory_bytes(pid));
        }
    };
    timeout(3 * WAIT_TIMEOUT, cut).await.unwrap_or_else(|_| panic!("not cut after {:?}", began.elapsed()));
    assert!(metric(&admin, "ehr_chat_http_unread_responses_total").await > 0.0, "they were cut for reading nothing");
    drop(held);
    let grown = most.saturating_sub(before);
    assert!(grown < MAX_GROWTH_BYTES, "{} MiB more", grown / 1024 / 1024);
    let page = doctor.history(&patient, "&limit=200").await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 18, "the short one and those that a page takes");
    test_env.stack.stop().unwrap();
}

#[tokio::test]
async fn paging_finds_all_long_messages() {
    const MESSAGES: i64 = 200;
    let test_env = test_env().await;
    let place = &test_env.place;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    // Long and short ones, some of which are longer as JSON.
    for number in 0..MESSAGES {
        let text =
            ["x", "\u{1F600}", "\"\\", "\u{1}"][number as usize % 4].repeat(if number % 5 == 0 { 10 } else { 4_000 });
        doctor.send_ok(&patient, &text).await;
    }
    for (by, limit) in [("after", 200), ("before", 200), ("after", 7), ("before", 1)] {
        let mut seqs: Vec<i64> = Vec::new();
        let mut from = if by == "after" { 0 } else { i64::MAX };
        loop {
            let page = doctor.history(&patient, &format!("&limit={limit}&{by}={from}")).await;
            let found: Vec<i64> =
                page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect();
            from = *(if by == "after" { found.last() } else { found.first() }).expect("a page has a message");
            seqs.extend(found);
            if page["has_more"] == false {
                break;
            }
        }
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=MESSAGES).collect::<Vec<_>>(), "{by} {limit}");
    }
    // As many conversations as fill several pages.
    let busy = place.user("busy");
    for number in 0..40 {
        busy.send_ok(&place.contact(&format!("p{number}")), &"\u{1F600}".repeat(8_000)).await;
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = busy.inbox(&format!("&limit=200{cursor}")).await;
        seen.extend(
            page["conversations"].as_array().unwrap().iter().map(|row| row["contact_id"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(seen, (0..40).rev().map(|number| format!("p{number}")).collect::<Vec<_>>());
    test_env.stack.stop().unwrap();
}
