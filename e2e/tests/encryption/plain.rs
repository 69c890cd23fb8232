//! Plain text where all content is encrypted: it was put there past the service.

use e2e::TestLocation;
use e2e::audit::verify;
use stack::StackEnv;

use crate::keys::{KeyFiles, Keys};
use crate::rotation::{TURNS, keys, replace_apis, try_keys};
use crate::{place, service, sql, stack, start, until};

/// Replaces what a message says by text in the open.
fn slip(env: &StackEnv, id: &str, text: &str) {
    sql(
        env,
        &format!("update messages set content = '{text}', content_sealed = null, content_key = null where id = '{id}'"),
    );
}

/// The output of `audit verify` with the keys of content.
async fn verified(env: &StackEnv, content_keys: &str) -> (bool, String) {
    let mut command = service("api-service", env);
    command.args(["audit", "verify"]).env("AUDIT_KEY", &env.audit_key).env("CONTENT_KEYS", content_keys);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

#[tokio::test]
async fn plain_text_is_hidden_counted_and_named() {
    let place = place().await;
    let (doctor, patient, other) = (place.user("doc"), place.contact("pat"), place.contact("other"));
    let env = stack().env();
    let sent = doctor.send_ok(&patient, "one a day").await;
    let id = sent["id"].as_str().unwrap().to_owned();
    doctor.send_ok(&other, "untouched").await;
    slip(&env, &id, "ten a day");
    for answer in [
        doctor.get(&format!("/chat/history?{}", doctor.with(&patient))).await,
        patient.get(&format!("/chat/conversations?location_id={}", place.location)).await,
    ] {
        let problem = answer.expect_problem(500);
        assert!(!problem.to_string().contains("ten a day"), "{problem}");
    }
    assert_eq!(doctor.messages(&other).await[0]["content"], "untouched");
    // Nor is it published, and it holds nothing up.
    sql(
        &env,
        &format!(
            "insert into outbox (kind, message_ids, created_at) values ('message', array['{id}']::uuid[], now() - interval '1 minute')"
        ),
    );
    until("the outbox is empty", async || {
        sql(
            &env,
            "select count(*) from outbox where created_at < now() - interval '30 seconds' and published_at is null and failed_at is null",
        ) == "0"
    })
    .await;
    let admin = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut counted = 0;
    for url in env.admin_urls.iter().take(env.api_urls.len()) {
        let metrics = admin.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
        let metric = "ehr_chat_content_decrypt_failures_total{cause=\"plain\"} ";
        counted += metrics.lines().find_map(|line| line.strip_prefix(metric)).map_or(0, |value| value.parse().unwrap());
    }
    assert!(counted >= 3, "{counted}");

    // A message that was never sent.
    let invented = uuid::Uuid::now_v7().to_string();
    sql(
        &env,
        &format!(
            "insert into messages (id, location_id, sender_user_id, receiver_contact_id, content, sent_at, conversation_id, seq)
             select '{invented}', location_id, sender_user_id, receiver_contact_id, 'invented', now(), conversation_id, 2 from messages where id = '{id}'"
        ),
    );
    let (is_right, printed) = verified(&env, Keys::new("m1").text()).await;
    assert!(!is_right && printed.contains(&format!("message {id} is in plain text")), "{printed}");
    assert!(printed.contains(&format!("message {invented} is in plain text")), "{printed}");
    // Without the keys of content as well, since the row of the trail is bound to the text.
    let (is_right, printed) = verify(&env, &env.service_database_url, &[]).await;
    assert!(!is_right && printed.contains(&format!("message {id} does not say what was sent")), "{printed}");
    assert!(printed.contains(&format!("message {invented} has no audit row")), "{printed}");
    assert!(!printed.contains("a day") && !printed.contains("'invented'"), "{printed}");

    // It is listed and not sealed.
    let encrypt = async |more: &[&str]| {
        let mut command = service("api-service", &env);
        command
            .args(["keys", "encrypt"])
            .args(more)
            .env("AUDIT_KEY", &env.audit_key)
            .env("CONTENT_KEYS", Keys::new("m1").text());
        let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let (is_done, printed) = encrypt(&[]).await;
    assert!(
        !is_done && printed.contains(&id) && printed.contains(&invented) && !printed.contains("a day"),
        "{printed}"
    );
    assert_eq!(sql(&env, &format!("select content from messages where id = '{id}'")), "ten a day");
    sql(&env, &format!("delete from messages where id = '{invented}'"));
    // Unless the operator accepts what was listed.
    let (is_done, printed) = encrypt(&["--accept-plain"]).await;
    assert!(is_done && printed.contains(&id), "{printed}");
    assert_eq!(sql(&env, &format!("select content is null from messages where id = '{id}'")), "t");
    // Even then the trail knows better.
    let (is_right, printed) = verified(&env, Keys::new("m1").text()).await;
    assert!(!is_right && printed.contains(&format!("message {id} does not say what was sent")), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypt_resumes_after_kill_and_then_rejects_plain_text() {
    let _turn = TURNS.acquire().await.unwrap();
    let files = KeyFiles::new("-,m1", "-,r1");
    let env = files.env();
    let stack = tokio::task::spawn_blocking(move || start(env)).await.unwrap();
    let place = TestLocation::new(&stack);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let first = doctor.send_ok(&patient, "plain").await;
    let id = first["id"].as_str().unwrap().to_owned();
    // Many more, as from years ago.
    sql(
        &stack.env(),
        &format!(
            "insert into messages (id, location_id, sender_user_id, receiver_contact_id, content, sent_at, conversation_id, seq)
             select ('0180' || lpad(to_hex(n), 4, '0') || '-0000-7000-8000-000000000000')::uuid, location_id, sender_user_id,
                    receiver_contact_id, 'old ' || n, now() - interval '3 years', conversation_id, 1000 + n
             from messages, generate_series(1, 20000) n where id = '{id}'"
        ),
    );
    let plain = "select count(*) from messages where content is not null";
    // Some service does not encrypt yet: everything is sealed, and text in the open still opens.
    let (is_done, printed) = try_keys(&stack, "m1", &["encrypt"]).await;
    assert!(!is_done && printed.contains("still write text in the open"), "{printed}");
    assert_eq!(sql(&stack.env(), plain), "0");
    sql(
        &stack.env(),
        "update messages set content = 'old again', content_sealed = null, content_key = null where seq between 5000 and 21000",
    );
    sql(&stack.env(), "delete from progress");
    files.write("m1", "r1");
    replace_apis(&stack).await;

    // Killed in the middle, it has done a part.
    let mut command = service("api-service", &stack.env());
    command.args(["keys", "encrypt"]).env("CONTENT_KEYS_FILE", files.content());
    let mut running = command.spawn().unwrap();
    until("it is under way", async || sql(&stack.env(), "select count(*) from progress") == "1").await;
    running.kill().unwrap();
    running.wait().unwrap();
    let left: u32 = sql(&stack.env(), plain).parse().unwrap();
    assert!(
        left > 0 && sql(&stack.env(), "select count(*) from progress") == "1",
        "it was too fast to be stopped: {left}"
    );
    keys(&stack, &files, &["encrypt"]).await;
    assert_eq!(
        (sql(&stack.env(), plain), sql(&stack.env(), "select count(*) from progress")),
        ("0".to_owned(), "0".to_owned())
    );
    assert_eq!(patient.history(&doctor, "&before=2").await["messages"][0]["content"], "plain");

    // From now on plain text is not shown, neither by running services nor by those that start.
    slip(&stack.env(), &id, "slipped in");
    let history = format!("/chat/history?{}&before=2", patient.with(&doctor));
    until("running services refuse it", async || patient.get(&history).await.status == 500).await;
    replace_apis(&stack).await;
    assert_eq!(patient.get(&history).await.status, 500);
    // Encryption cannot be switched off by the way.
    let mut command = service("api-service", &stack.env());
    command.arg("serve").env("CONTENT_KEYS", Keys::new("-,m1").text()).env("RELAY_KEYS", Keys::new("r1").text());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let printed = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(64) && printed.contains("keys allow-plain"), "{printed}");
    keys(&stack, &files, &["allow-plain"]).await;
    replace_apis(&stack).await;
    until("it opens", async || patient.get(&history).await.status == 200).await;
    stack.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rewrap_needs_master_key_at_every_service() {
    let _turn = TURNS.acquire().await.unwrap();
    let files = KeyFiles::new("m1", "r1");
    let env = files.env();
    let stack = tokio::task::spawn_blocking(move || start(env)).await.unwrap();
    let place = TestLocation::new(&stack);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "under m1").await;
    let masters = "select distinct master_key_id from data_keys";
    // No service has m2, and then one of the two.
    for round in 0..2 {
        for task in [&["rewrap"][..], &["rotate"], &["encrypt"]] {
            let (is_done, printed) = try_keys(&stack, "m2,m1", task).await;
            assert!(!is_done && printed.contains("do not hold the master key `m2`"), "{task:?}: {printed}");
            assert_eq!(printed.matches("service 0").count(), 2 - round, "each is named: {printed}");
        }
        assert_eq!(sql(&stack.env(), masters), "m1");
        assert_eq!(sql(&stack.env(), "select count(*) from data_keys"), "1");
        for api in &stack.env().api_urls {
            doctor.at(api, &place.ws_url).send_ok(&patient, "goes on").await;
        }
        files.write("m1,m2", "r1");
        crate::rotation::replace_api(&stack, round).await;
    }
    // The same name is not enough.
    let (is_done, printed) = try_keys(&stack, &Keys::new("m1").text().replace("m1:", "m2:"), &["rewrap"]).await;
    assert!(!is_done && printed.contains("m2"), "{printed}");
    let (is_done, printed) = try_keys(&stack, "m2,m1", &["rewrap"]).await;
    assert!(is_done, "{printed}");
    assert_eq!(sql(&stack.env(), masters), "m2");
    doctor.send_ok(&patient, "under m2").await;
    // A service that is killed is waited for, a minute at most; one that ends says so.
    assert_eq!(sql(&stack.env(), "select count(*) from running_services"), "2");
    stack.stop().unwrap();
}
