//! Everything works, and neither PostgreSQL nor Redis holds what was written.

use e2e::secret_text;
use serde_json::json;
use uuid::Uuid;

use crate::{holding, place, redis, sql, stack};

#[tokio::test]
async fn no_table_file_or_dump_holds_content() {
    let place = place().await;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let secret = secret_text();
    let mut at_patient = patient.open(&doctor).await;
    let mut at_doctor = doctor.open(&patient).await;
    let mut inbox = patient.open_inbox().await;

    // A send, its repeat, and another message under its name.
    let mut body = doctor.message_to(&patient, &secret);
    body["client_message_id"] = json!(Uuid::now_v7());
    let sent = doctor.send(&body).await.expect_status(201);
    assert_eq!(sent["content"], *secret);
    let repeated = doctor.send(&body).await.expect_status(200);
    assert_eq!((&repeated["id"], &repeated["content"]), (&sent["id"], &sent["content"]));
    body["content"] = json!(format!("{secret} and more"));
    let _problem = doctor.send(&body).await.expect_problem(409);

    // Live, proven, marked.
    let live = at_patient.expect("message").await;
    assert_eq!(live["message"], sent);
    assert_eq!(inbox.expect("conversation").await["conversation"]["last_message"]["content"], *secret);
    assert_eq!(at_doctor.expect("delivered").await["message_ids"], json!([sent["id"]]));
    let _marks = patient.mark("read", &[&sent["id"]]).await.expect_status(200);
    assert_eq!(at_doctor.expect("read").await["message_ids"], json!([sent["id"]]));

    // From the log.
    at_patient.close().await;
    let long = format!("{} {}", secret_text(), "\u{1F600}".repeat(7_900));
    let second = patient.send_ok(&doctor, &long).await;
    let mut at_patient = patient.resume(&doctor, &live["cursor"]).await;
    assert_eq!(at_patient.next().await["resumed"], true);
    assert_eq!(at_patient.expect("message").await["message"], second);

    // From the database.
    let messages = doctor.messages(&patient).await;
    assert_eq!(messages.iter().map(|message| &message["content"]).collect::<Vec<_>>(), [&secret, &long]);
    assert_eq!(doctor.inbox("").await["conversations"][0]["last_message"]["content"], *long);

    let env = stack().env();
    let [first, second] = [&sent, &second].map(|message| message["id"].as_str().unwrap().to_owned());
    let secrets = [secret.clone(), long[..secret.len()].to_owned()];

    // What a dump would show.
    let rows = sql(&env, &format!("select m::text from messages m where id in ('{first}', '{second}')"));
    assert_eq!(rows.lines().count(), 2);
    let sealed = sql(
        &env,
        &format!(
            "select count(*) from messages where location_id = '{}' and content is null and content_key is not null and content_sealed is not null",
            place.location
        ),
    );
    assert_eq!(sealed, "2");
    let tables = sql(
        &env,
        "select table_name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'",
    );
    for table in tables.lines() {
        let text = sql(&env, &format!("select t::text from {table} t"));
        for secret in &secrets {
            // A text in a column of bytes is shown in hexadecimal digits.
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(!text.contains(secret) && !text.contains(&hex), "{table}");
        }
    }

    // PostgreSQL's files and its WAL; those of its own kind that must be there are found.
    sql(&env, "checkpoint");
    let folder = stack().data_dir().join("postgres");
    let (found, files) = holding(&folder, &place.location);
    assert!(found.iter().any(|path| path.components().any(|part| part.as_os_str() == "pg_wal")), "{found:?}");
    assert!(found.iter().any(|path| path.components().any(|part| part.as_os_str() == "base")), "{found:?}");
    assert!(files > 100);
    for secret in &secrets {
        assert_eq!(holding(&folder, secret).0, [] as [std::path::PathBuf; 0]);
    }

    // Redis: every key, and its memory as it would go to a disk.
    let logs: Vec<String> = redis(&env, &["--scan"]).lines().map(str::to_owned).collect();
    assert!(logs.iter().any(|key| key.contains(&place.location)), "{logs:?}");
    for key in logs.iter().filter(|key| key.ends_with(":log")) {
        let entries = redis(&env, &["XRANGE", key, "-", "+"]);
        assert!(secrets.iter().all(|secret| !entries.contains(secret)), "{key}");
    }
    redis(&env, &["CONFIG", "SET", "rdbcompression", "no"]);
    redis(&env, &["SAVE"]);
    let dump = std::fs::read(stack().data_dir().join("dump.rdb")).unwrap();
    let holds = |needle: &str| dump.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds(&first) && holds(&second), "the events are there");
    assert!(!secrets.iter().any(|secret| holds(secret)));
}

#[tokio::test]
async fn concurrent_first_sends_create_one_data_key() {
    let place = place().await;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let env = stack().env();
    let mut sending = Vec::new();
    for number in 0..20 {
        let at_one = doctor.at(&env.api_urls[number % 2], &place.ws_url);
        let patient = patient.clone();
        sending.push(tokio::spawn(async move { at_one.send_ok(&patient, &number.to_string()).await }));
    }
    for sent in sending {
        sent.await.unwrap();
    }
    let keys = format!("select count(*) from data_keys where location_id = '{}'", place.location);
    assert_eq!(sql(&env, &keys), "1");
    let mut contents: Vec<u32> = Vec::new();
    for message in patient.messages(&doctor).await {
        contents.push(message["content"].as_str().unwrap().parse().unwrap());
    }
    contents.sort_unstable();
    assert_eq!(contents, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn sealed_page_ends_at_size_limit_with_more() {
    const MESSAGES: i64 = 200;
    let place = place().await;
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let text = "x".repeat(3_000);
    for _ in 0..MESSAGES / 20 {
        futures_util::future::join_all((0..20).map(|_| doctor.send_ok(&patient, &text))).await;
    }
    let seqs = |page: &serde_json::Value| -> Vec<i64> {
        page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect()
    };
    // 175 of them are the first to reach 524,288 bytes; sealed, 174 are.
    let first = doctor.history(&patient, "&limit=200&after=0").await;
    assert_eq!((seqs(&first), &first["has_more"]), ((1..=175).collect(), &true.into()));
    let rest = doctor.history(&patient, "&limit=200&after=175").await;
    assert_eq!((seqs(&rest), &rest["has_more"]), ((176..=MESSAGES).collect(), &false.into()));
}
