//! Every rejected handshake gets an HTTP response with the reason.

use serde_json::Value;

use crate::support::{Gateway, QUERY, RedisServer, doctor, http, patient, service};

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

struct Refused {
    status: u16,
    head: String,
    problem: Value,
}

impl Refused {
    fn code(&self) -> &str {
        self.problem["code"].as_str().unwrap()
    }
}

async fn refused(gateway: &Gateway, line: &str, headers: &str) -> Refused {
    let request = format!("{line} HTTP/1.1\r\nhost: x\r\nx-request-id: r-1\r\n{headers}\r\n");
    let (status, head, body) = http(gateway.address, &request).await;
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/problem+json"), "{head}");
    assert!(head.contains("x-request-id: r-1"), "{head}");
    assert!(head.contains("connection: close") || head.contains("connection: upgrade, close"), "{head}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], "r-1");
    Refused { status, head, problem }
}

#[tokio::test]
async fn errors_are_problems_with_status_and_headers() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let auth = |token: String| format!("{UPGRADE}authorization: Bearer {token}\r\n");

    let answer = refused(&gateway, "GET /nowhere", "").await;
    assert_eq!((answer.status, answer.code()), (404, "not_found"));
    let answer = refused(&gateway, "POST /ws", "content-length: 0\r\n").await;
    assert_eq!((answer.status, answer.code()), (405, "method_not_allowed"));
    assert!(answer.head.contains("allow: get, head, options"));
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}"), "").await;
    assert_eq!((answer.status, answer.code()), (426, "upgrade_required"));
    assert!(answer.head.contains("upgrade: websocket"));
    let old = UPGRADE.replace("version: 13", "version: 8");
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}"), &old).await;
    assert_eq!((answer.status, answer.code()), (426, "websocket_version_unsupported"));
    assert!(answer.head.contains("sec-websocket-version: 13"));

    let answer = refused(&gateway, &format!("GET /ws?{QUERY}"), UPGRADE).await;
    assert_eq!((answer.status, answer.code()), (401, "token_missing"));
    assert!(answer.head.contains("www-authenticate: bearer"));
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}"), &auth("hunter2".to_owned())).await;
    assert_eq!((answer.status, answer.code()), (401, "token_malformed"));
    assert!(!answer.problem.to_string().contains("hunter2") && !answer.head.contains("hunter2"));
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}&ticket=x"), &auth(doctor())).await;
    assert_eq!((answer.status, answer.code()), (400, "invalid_handshake"));
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}&ticket=x"), UPGRADE).await;
    assert_eq!((answer.status, answer.code()), (401, "ticket_invalid"));
    let foreign = format!("{}origin: https://evil.example\r\n", auth(doctor()));
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}"), &foreign).await;
    assert_eq!((answer.status, answer.code()), (403, "origin_not_allowed"));
    for field in ["x-content-type-options: nosniff", "referrer-policy: no-referrer", "frame-ancestors 'none'"] {
        assert!(answer.head.contains(field), "{}", answer.head);
    }

    let answer = refused(&gateway, "GET /ws?location_id=loc1&user_id=%zz", &auth(doctor())).await;
    assert_eq!((answer.status, answer.code()), (400, "malformed_query"));
    let answer = refused(&gateway, "GET /ws", &auth(doctor())).await;
    assert_eq!((answer.status, answer.code()), (422, "missing_parameter"));
    for (n, pointer) in ["?location_id", "?user_id"].into_iter().enumerate() {
        assert_eq!(answer.problem["errors"][n]["pointer"], pointer);
    }
    let answer = refused(&gateway, "GET /ws?location_id=loc1&peer_user_id=doc123", &auth(doctor())).await;
    assert_eq!((answer.status, answer.code()), (422, "missing_parameter"));
    assert_eq!(answer.problem["errors"][0]["pointer"], "?user_id");
    let answer = refused(&gateway, &format!("GET /ws?{QUERY}&cursor=yesterday"), &auth(doctor())).await;
    assert_eq!((answer.status, answer.code()), (422, "invalid_cursor"));
    assert_eq!(answer.problem["errors"][0]["pointer"], "?cursor");

    let stranger = "GET /ws?location_id=loc1&user_id=doc9&contact_id=pat456";
    for more in ["", "&cursor=yesterday", "&utm=x", "&x=%zz"] {
        let answer = refused(&gateway, &format!("{stranger}{more}"), &auth(doctor())).await;
        assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{more}");
    }
    let elsewhere = format!("GET /ws?{}", QUERY.replace("loc1", "loc9"));
    for token in [doctor(), patient(), service()] {
        assert_eq!(refused(&gateway, &elsewhere, &auth(token)).await.status, 403);
    }
}

#[tokio::test]
async fn health_answers_get_and_head() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    for path in ["/healthz", "/readyz"] {
        let (status, _, body) = http(gateway.address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!((status, body.as_str()), (200, "ok\n"));
        let (status, _, body) = http(gateway.address, &format!("HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        assert_eq!((status, body.as_str()), (200, ""));
    }
}

#[tokio::test]
async fn options_lists_methods() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    for path in ["/ws", "/healthz", "/readyz", "*"] {
        let request = format!("OPTIONS {path} HTTP/1.1\r\nhost: x\r\nx-request-id: r-1\r\n\r\n");
        let (status, head, body) = http(gateway.address, &request).await;
        let head = head.to_ascii_lowercase();
        assert_eq!((status, body.as_str()), (204, ""), "{path}: {head}");
        assert!(head.contains("allow: get, head, options\r\n") && head.contains("x-request-id: r-1"), "{path}: {head}");
    }
    assert_eq!(refused(&gateway, "OPTIONS /nowhere", "").await.status, 404);
    for path in ["/ws", "/healthz", "/readyz"] {
        let answer = refused(&gateway, &format!("DELETE {path}"), "").await;
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.head.contains("allow: get, head, options"), "{}", answer.head);
    }
}

#[tokio::test]
async fn subprotocol_is_selected_without_repeating_token() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let token = doctor();
    let mut tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let request = format!(
        "GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\n{UPGRADE}sec-websocket-protocol: chat.v1, bearer.{token}\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(head.contains("sec-websocket-protocol: chat.v1\r\n"), "{head}");
    assert!(head.contains("x-request-id: "), "{head}");
    assert!(!head.contains("bearer"), "{head}");
}

#[tokio::test]
async fn handshake_gets_503_without_redis_or_beyond_limit() {
    let mut redis = RedisServer::start();
    redis.kill();
    let gateway = Gateway::start_unready(&redis, &[("MAX_SOCKETS", "1")]);
    let headers = format!("{UPGRADE}authorization: Bearer {}\r\n", doctor());
    let line = format!("GET /ws?{QUERY}");
    for line in ["GET /readyz", &line] {
        let answer = refused(&gateway, line, &headers).await;
        assert_eq!((answer.status, answer.code()), (503, "starting"));
        assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    }
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("MAX_SOCKETS", "1")]).await;
    let _first = crate::support::Client::open(gateway.address, QUERY, &doctor()).await;
    let answer = refused(&gateway, &line, &headers).await;
    assert_eq!((answer.status, answer.code()), (503, "overloaded"));
}

#[tokio::test]
async fn incomplete_request_is_answered() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[("HANDSHAKE_TIMEOUT_SECONDS", "1")]).await;
    let (status, _, body) = http(gateway.address, "GET /ws HTTP/1.1\r\nhost: x\r\n").await;
    assert_eq!(status, 408);
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&408.into(), &"request_timeout".into()));
}

#[tokio::test]
async fn unparsable_headers_get_problem_body() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let large = format!("x: {}\r\n", "y".repeat(20_000));
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for (name, request, expected) in [
        ("a large head", format!("GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\n{large}\r\n"), 431),
        ("many headers", format!("GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431),
        ("no HTTP", "hello\r\n\r\n".to_owned(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("a header without a name", format!("GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\n: y\r\n\r\n"), 400),
    ] {
        let (status, head, body) = http(gateway.address, &request).await;
        let head = head.to_ascii_lowercase();
        assert_eq!(status, expected, "{name}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{name}: {head}");
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{name}: {body}"));
        assert_eq!(problem["status"], expected, "{name}");
        let code = if expected == 431 { "head_too_large" } else { "malformed_request" };
        assert_eq!(problem["code"], code, "{name}");
        let id = problem["request_id"].as_str().unwrap();
        assert!(
            !id.is_empty() && head.contains(&format!("x-request-id: {}", id.to_ascii_lowercase())),
            "{name}: {head}"
        );
    }
}

#[tokio::test]
async fn handshake_with_body_is_rejected() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &[]).await;
    let token = doctor();
    let handshake = format!(
        "GET /ws?{QUERY} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nauthorization: Bearer {token}\r\n"
    );
    for (header, body) in [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")] {
        let (status, _, answer) = http(gateway.address, &format!("{handshake}{header}\r\n\r\n{body}")).await;
        assert_eq!(status, 400, "{header}: {answer}");
        assert!(answer.contains(r#""code":"invalid_handshake""#), "{answer}");
    }
}
