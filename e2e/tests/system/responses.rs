//! What is served and how: listed routes, HEAD, compression, the size of a page.

use e2e::raw_http;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contradictions::{head, operations};
use crate::place;

#[tokio::test]
async fn served_routes_match_openapi() {
    let place = place();
    let doctor = place.user("doc");
    let mut paths: Vec<String> = operations(&place).into_iter().map(|(_, path, _)| path).collect();
    paths.extend(
        ["/", "/docs", "/openapi.json", "/asyncapi.yaml", "/sdk/index.js", "/sdk/element.js", "/favicon.ico"]
            .into_iter()
            .chain(["/dev/token", "/ws"])
            .map(str::to_owned),
    );
    for path in paths {
        let answer = place.ask(place.request(Method::OPTIONS, &path)).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path} {answer:?}");
        let allow = answer.header("allow").unwrap().to_owned();
        let listed: Vec<&str> = allow.split(", ").collect();
        assert!(listed.contains(&"OPTIONS"), "{path} {allow}");
        assert_eq!(listed.contains(&"GET"), listed.contains(&"HEAD"), "{path} {allow}");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"] {
            let answer = doctor.place.ask(doctor.request(method.parse().unwrap(), &path)).await;
            assert_eq!(answer.status != 405, listed.contains(&method), "{method} {path} {answer:?}");
            if answer.status == 405 {
                assert_eq!(answer.header("allow"), Some(allow.as_str()), "{method} {path}");
            }
        }
    }
    let _problem = place.ask(place.request(Method::OPTIONS, "/nowhere")).await.expect_problem(404);
    let server =
        raw_http::exchange(&place.env.api_urls[0], head("OPTIONS", "*", &["Host: a".to_owned()]).as_bytes()).await;
    assert!(server.starts_with("HTTP/1.1 204 ") && server.contains("allow: GET, HEAD, OPTIONS, POST, PUT"), "{server}");
}

#[tokio::test]
async fn head_matches_get() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let _sent = doctor.send_ok(&patient, "hello").await;
    for path in [
        format!("/chat/history?{}", doctor.with(&patient)),
        format!("/chat/conversations?location_id={}", place.location),
    ] {
        let get = doctor.get(&path).await;
        let head = doctor.place.ask(doctor.request(Method::HEAD, &path)).await;
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        for name in ["content-length", "content-type", "cache-control", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
    }
}

#[tokio::test]
async fn responses_are_compressed_when_safe() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let _sent = doctor.send_ok(&patient, &"hello ".repeat(500)).await;
    let history = format!("/chat/history?{}", doctor.with(&patient));
    let ask = async |method: Method, path: &str, accepted: &str| {
        place.ask(doctor.request(method, path).header("accept-encoding", accepted)).await
    };
    for path in [history.as_str(), "/openapi.json", "/docs", "/sdk/index.js"] {
        let packed = ask(Method::GET, path, "gzip").await;
        assert_eq!((packed.status, packed.header("content-encoding")), (200, Some("gzip")), "{path}");
        let plain = ask(Method::GET, path, "identity").await;
        assert_eq!(plain.header("content-encoding"), None);
        for answer in [&packed, &plain] {
            assert!(answer.header("vary").unwrap().contains("accept-encoding"), "{path}");
        }
        let length = |answer: &e2e::HttpResponse| answer.header("content-length").unwrap().parse::<usize>().unwrap();
        assert!(length(&packed) < length(&plain), "{path}");
        for (accepted, like) in [("gzip", &packed), ("identity", &plain)] {
            let head = ask(Method::HEAD, path, accepted).await;
            for name in ["content-length", "content-encoding", "vary", "etag"] {
                assert_eq!(head.header(name), like.header(name), "{name} of HEAD {path}");
            }
        }
    }
    let inbox = ask(Method::GET, &format!("/chat/conversations?location_id={}", place.location), "gzip").await;
    assert!(inbox.text.len() > 1024 && inbox.header("content-encoding").is_none());
    let ticket = ask(Method::POST, "/chat/ws-ticket", "gzip").await;
    assert!(ticket.expect_status(200)["ticket"].is_string() && ticket.header("content-encoding").is_none());
}

#[tokio::test]
async fn page_ends_at_size_limit_and_next_continues() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    for _ in 0..20 {
        let _sent = doctor.send_ok(&patient, &"\u{1f600}".repeat(8_000)).await;
    }
    let seqs = |page: &Value| -> Vec<u64> {
        page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
    };
    let newest = doctor.history(&patient, "&limit=200").await;
    assert_eq!((seqs(&newest), &newest["has_more"]), ((4..=20).collect(), &json!(true)));
    assert!(newest.to_string().len() < 600 * 1024);
    let older = doctor.history(&patient, "&limit=200&before=4").await;
    assert_eq!((seqs(&older), &older["has_more"]), ((1..=3).collect(), &json!(false)));
    let first = doctor.history(&patient, "&limit=200&after=0").await;
    assert_eq!((seqs(&first), &first["has_more"]), ((1..=17).collect(), &json!(true)));
    let rest = doctor.history(&patient, "&limit=200&after=17").await;
    assert_eq!((seqs(&rest), &rest["has_more"]), ((18..=20).collect(), &json!(false)));
}
