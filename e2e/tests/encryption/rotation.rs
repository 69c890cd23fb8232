//! Keys are changed under load without a failure. Each test has a system of its own; two run at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{TestLocation, TestUser, WAIT_TIMEOUT};
use serde_json::Value;
use stack::{Signal, Stack, StackEnv};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::keys::KeyFiles;
use crate::{service, sql, start, until};

pub(crate) static TURNS: Semaphore = Semaphore::const_new(2);

/// Replaces a process by one that finds the keys as they are now.
async fn replace(stack: &Stack, pid_of: impl Fn(&StackEnv) -> i32, ready_url: &str) {
    let before = pid_of(&stack.env());
    stack.kill(before, Signal::SIGTERM).unwrap();
    stack.wait_until(WAIT_TIMEOUT * 2, |env| pid_of(env) != before).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    until("the new process is ready", async || {
        http.get(format!("{ready_url}/readyz")).send().await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
}

async fn replace_gateways(stack: &Stack) {
    let env = stack.env();
    for gateway in 0..env.gateway_pids.len() {
        let url = &env.admin_urls[env.api_urls.len() + gateway];
        replace(stack, |env| env.gateway_pids[gateway], url).await;
    }
}

pub(crate) async fn replace_api(stack: &Stack, api: usize) {
    let url = stack.env().admin_urls[api].clone();
    replace(stack, |env| env.api_pids[api], &url).await;
}

pub(crate) async fn replace_apis(stack: &Stack) {
    for api in 0..stack.env().api_pids.len() {
        replace_api(stack, api).await;
    }
}

pub(crate) async fn keys(stack: &Stack, files: &KeyFiles, arguments: &[&str]) {
    let mut command = service("api-service", &stack.env());
    command.arg("keys").args(arguments).env("CONTENT_KEYS_FILE", files.content());
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The same with master keys that may not be those of the services: names, or a list as it is. Says whether it worked, and what it said.
pub(crate) async fn try_keys(stack: &Stack, list: &str, arguments: &[&str]) -> (bool, String) {
    let list = if list.contains(':') { list.to_owned() } else { crate::keys::Keys::new(list).text().to_owned() };
    let mut command = service("api-service", &stack.env());
    command.arg("keys").args(arguments).env("CONTENT_KEYS", list);
    let done = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    (done.status.success(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
}

/// Sends, one after the other, until it must stop; every send succeeds. Says how many.
fn keep_sending(from: &TestUser, to: &TestUser, until: &Arc<AtomicBool>) -> JoinHandle<usize> {
    let (from, to, until) = (from.clone(), to.clone(), until.clone());
    tokio::spawn(async move {
        let mut sent = 0;
        while !until.load(Ordering::Relaxed) {
            from.send_ok(&to, &sent.to_string()).await;
            sent += 1;
        }
        sent
    })
}

/// Listens, coming back with its cursor whenever its gateway goes away, until it has received the message of this `seq`. It must
/// hear each, in order, and is never sent to load the history.
async fn listen(person: &TestUser, other: &TestUser, last: impl Fn() -> Option<i64>) {
    let mut socket = person.open_at(&person.with(other)).await;
    let (mut cursor, mut received) = (socket.next().await["cursor"].clone(), None);
    while last().is_none_or(|last| received != Some(last)) {
        match socket.next_or_end().await {
            Some(frame) if frame["type"] == "message" => {
                let seq = frame["message"]["seq"].as_i64().unwrap();
                assert!(received.is_none_or(|received| received + 1 == seq), "{received:?}, and then {seq}");
                (received, cursor) = (Some(seq), frame["cursor"].clone());
            }
            Some(frame) => assert_ne!(frame["type"], "resync"),
            None => {
                socket = person.resume(other, &cursor).await;
                assert_eq!(socket.next().await["resumed"], true);
            }
        }
    }
}

fn contents(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_without_failure() {
    let _turn = TURNS.acquire().await.unwrap();
    let files = KeyFiles::new("m1", "r1");
    let env = files.env();
    let stack = tokio::task::spawn_blocking(move || start(env)).await.unwrap();
    let place = TestLocation::new(&stack);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let is_done = Arc::new(AtomicBool::new(false));
    let total = Arc::new(std::sync::Mutex::new(None));
    let sending = keep_sending(&doctor, &patient, &is_done);
    let listening = tokio::spawn({
        let (doctor, patient, total) = (doctor.clone(), patient.clone(), total.clone());
        async move { listen(&patient, &doctor, || *total.lock().unwrap()).await }
    });

    // All learn the new keys, then the API services use them, then the old ones go.
    files.write("m1,m2", "r1,r2");
    replace_gateways(&stack).await;
    replace_apis(&stack).await;
    files.write("m2,m1", "r2,r1");
    replace_apis(&stack).await;
    keys(&stack, &files, &["rewrap"]).await;
    assert_eq!(sql(&stack.env(), "select distinct master_key_id from data_keys"), "m2");
    files.write("m2", "r2,r1");
    replace_apis(&stack).await;
    keys(&stack, &files, &["rotate", "--location", &place.location]).await;
    replace_apis(&stack).await; // They would take half a minute to notice.
    doctor.send_ok(&place.contact("late"), "under the new data key").await;

    is_done.store(true, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    *total.lock().unwrap() = Some(i64::try_from(sent).unwrap() + 1);
    doctor.send_ok(&patient, "the last one").await;
    listening.await.unwrap();

    let (mut all, mut before) = (Vec::new(), String::new());
    loop {
        let page = patient.history(&doctor, &format!("&limit=200{before}")).await;
        let messages = page["messages"].as_array().unwrap().clone();
        before = format!("&before={}", messages[0]["seq"]);
        all.splice(0..0, messages);
        if page["has_more"] == false {
            break;
        }
    }
    let expected: Vec<String> = (0..sent).map(|n| n.to_string()).chain(["the last one".to_owned()]).collect();
    assert_eq!(contents(&all), expected);
    assert_eq!(sql(&stack.env(), "select count(distinct content_key) from messages"), "2");
    assert_eq!(sql(&stack.env(), "select count(*) filter (where retired_at is null), count(*) from data_keys"), "1|2");
    stack.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn enabling_encryption_seals_older_messages() {
    let _turn = TURNS.acquire().await.unwrap();
    let files = KeyFiles::new("-,m1", "-,r1");
    let env = files.env();
    let stack = tokio::task::spawn_blocking(move || start(env)).await.unwrap();
    let place = TestLocation::new(&stack);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    for number in 0..3 {
        doctor.send_ok(&patient, &format!("plain {number}")).await;
    }
    let plain = "select count(*) from messages where content is not null and content_sealed is null";
    assert_eq!(sql(&stack.env(), plain), "3");
    files.write("m1", "r1");
    replace_apis(&stack).await;
    doctor.send_ok(&patient, "sealed").await;
    assert_eq!(sql(&stack.env(), plain), "3");
    let expected = ["plain 0", "plain 1", "plain 2", "sealed"];
    assert_eq!(contents(&patient.messages(&doctor).await), expected);
    let before = patient.messages(&doctor).await;
    keys(&stack, &files, &["encrypt"]).await;
    assert_eq!(sql(&stack.env(), plain), "0");
    assert_eq!(patient.messages(&doctor).await, before);
    keys(&stack, &files, &["rotate"]).await;
    assert_eq!(sql(&stack.env(), "select count(*) from data_keys where retired_at is not null"), "1");
    assert_eq!(patient.messages(&doctor).await, before);
    stack.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_removes_retired_keys_and_resumes() {
    let _turn = TURNS.acquire().await.unwrap();
    let files = KeyFiles::new("m1", "r1");
    let env = files.env();
    let stack = tokio::task::spawn_blocking(move || start(env)).await.unwrap();
    let place = TestLocation::new(&stack);
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let first = doctor.send_ok(&patient, "under the first key").await;
    let id = first["id"].as_str().unwrap();
    for _ in 0..4 {
        keys(&stack, &files, &["rotate"]).await;
    }
    let all = || sql(&stack.env(), "select id from data_keys order by id");
    let made = all();
    let [needed, second, third, retired_now, in_use] = made.lines().collect::<Vec<_>>()[..] else { panic!("{made}") };
    let retire = format!(
        "update data_keys set retired_at = retired_at - interval '2 days' where id in ('{needed}', '{second}', '{third}')"
    );
    sql(&stack.env(), &retire);
    // The key that is needed is named by the last of many messages.
    sql(
        &stack.env(),
        &format!(
            "insert into messages (id, location_id, sender_user_id, receiver_contact_id, content_sealed, content_key, sent_at,
                                   conversation_id, seq)
             select ('0180' || lpad(to_hex(n), 4, '0') || '-0000-7000-8000-000000000000')::uuid, location_id, sender_user_id,
                    receiver_contact_id, content_sealed, '{in_use}', now() - interval '3 years', conversation_id, 1000 + n
             from messages, generate_series(1, 12000) n where messages.id = '{id}'"
        ),
    );

    // One that was stopped in the middle looked for two of the keys.
    sql(
        &stack.env(),
        &format!(
            "insert into progress (name, position) values ('keys purge', '01801000-0000-7000-8000-000000000000'),
                 ('keys purge {needed}', '{needed}'), ('keys purge {second}', '{second}')"
        ),
    );
    keys(&stack, &files, &["purge"]).await;
    assert_eq!(all(), [needed, third, retired_now, in_use].join("\n"));
    // The next one looks for all.
    keys(&stack, &files, &["purge"]).await;
    assert_eq!(
        all(),
        [needed, retired_now, in_use].join("\n"),
        "one opens a message, one was retired just now, one is in use"
    );
    assert_eq!(sql(&stack.env(), "select count(*) from progress"), "0");
    let removed = "select count(*) from audit_log where action = 'keys' and detail like 'retired data keys%'";
    assert_eq!(sql(&stack.env(), removed), "2");
    replace_apis(&stack).await;
    assert_eq!(patient.history(&doctor, "&before=2").await["messages"][0]["content"], "under the first key");
    // Once nothing names it, it goes as well.
    sql(&stack.env(), &format!("delete from messages where id = '{id}'"));
    keys(&stack, &files, &["purge"]).await;
    assert_eq!(all(), [retired_now, in_use].join("\n"));
    stack.stop().unwrap();
}
