//! `keys purge` is killed where it hurts most, and run again.

use e2e::TestLocation;
use e2e::audit::AuditLog;
use stack::{Stack, StackEnv};

use crate::keys::KeyFiles;
use crate::rotation::{TURNS, keys, replace_apis};
use crate::{service, sql, start, until};

/// A statement of the purge waits there for as long as the test holds the lock.
const WAIT: &str = "create function wait_here() returns trigger language plpgsql as $$
    begin
        perform pg_advisory_xact_lock_shared(1);
        return case tg_op when 'DELETE' then old else new end;
    end $$";
/// Behind the second window of messages, before what it found is committed.
const AT_SECOND_WINDOW: &str = "create trigger wait_here before update of position on progress for each row
    when (old.position <> '00000000-0000-0000-0000-000000000000') execute function wait_here()";
/// In the last transaction, which removes keys.
const AT_REMOVAL: &str =
    "create trigger wait_here before delete on data_keys for each row execute function wait_here()";

/// Kills a purge while it waits, and returns when PostgreSQL has undone what it did not commit.
async fn kill_purge(stack: &Stack, files: &KeyFiles, table: &str, trigger: &str) {
    let env = stack.env();
    let holder = AuditLog::open(&env.database_url).await.client;
    holder.batch_execute("select pg_advisory_lock(1)").await.unwrap();
    holder.batch_execute(trigger).await.unwrap();
    let mut command = service("api-service", &env);
    let mut purge = command.args(["keys", "purge"]).env("CONTENT_KEYS_FILE", files.content()).spawn().unwrap();
    let waiting = "select coalesce(max(pid), 0) from pg_stat_activity where wait_event = 'advisory'";
    until("it waits", async || sql(&env, waiting) != "0").await;
    let backend = sql(&env, waiting);
    purge.kill().unwrap();
    purge.wait().unwrap();
    holder.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
    let gone = format!("select count(*) from pg_stat_activity where pid = {backend}");
    until("its session ends", async || sql(&env, &gone) == "0").await;
    holder.batch_execute(&format!("drop trigger wait_here on {table}")).await.unwrap();
}

/// All that a purge has no business with: messages, conversations, other work, and keys but this one.
fn all_else(env: &StackEnv, purged: &str) -> Vec<String> {
    let tables = ["messages", "conversations", "progress where name not like 'keys purge%'"];
    let keys = format!("data_keys where id <> '{purged}'");
    let digest = |of: &str| {
        sql(env, &format!("select md5(string_agg(t::text, '|' order by t::text)) from (select * from {of}) t"))
    };
    tables.into_iter().chain([keys.as_str()]).map(digest).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purge_resumes_after_kill_and_keeps_needed_keys() {
    let _turn = TURNS.acquire().await.unwrap();
    let files = KeyFiles::new("m1", "r1");
    let env = files.env();
    let stack = tokio::task::spawn_blocking(move || start(env)).await.unwrap();
    let (place, env) = (TestLocation::new(&stack), stack.env());
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let first = doctor.send_ok(&patient, "under the first key").await;
    let id = first["id"].as_str().unwrap();
    for _ in 0..4 {
        keys(&stack, &files, &["rotate"]).await;
    }
    let all = || sql(&env, "select id from data_keys order by id");
    let made = all();
    let [by_last, by_early, unused, retired_now, in_use] = made.lines().collect::<Vec<_>>()[..] else {
        panic!("{made}")
    };
    // One key is named by the newest message, one by an early message, and one by none.
    sql(
        &env,
        &format!(
            "update data_keys set retired_at = retired_at - interval '2 days' where id in ('{by_last}', '{by_early}', '{unused}');
             insert into messages (id, location_id, sender_user_id, receiver_contact_id, content_sealed, content_key, sent_at,
                                   conversation_id, seq)
             select ('0180' || lpad(to_hex(n), 4, '0') || '-0000-7000-8000-000000000000')::uuid, location_id, sender_user_id,
                    receiver_contact_id, content_sealed, case n when 10 then '{by_early}' else '{in_use}' end::uuid,
                    now() - interval '3 years', conversation_id, 1000 + n
             from messages, generate_series(1, 12000) n where messages.id = '{id}';
             insert into progress (name, position) values ('other work', gen_random_uuid());
             {WAIT}"
        ),
    );
    let before = all_else(&env, unused);
    let progress = || sql(&env, "select name, position from progress where name like 'keys purge%' order by name");

    kill_purge(&stack, &files, "progress", AT_SECOND_WINDOW).await;
    let after_first_window = progress();
    assert!(after_first_window.contains(unused) && !after_first_window.contains(by_early), "{after_first_window}");
    assert_eq!((all(), all_else(&env, unused)), (made.clone(), before.clone()));

    kill_purge(&stack, &files, "data_keys", AT_REMOVAL).await;
    let before_removal = progress();
    assert!(before_removal.contains(unused) && before_removal != after_first_window, "{before_removal}");
    assert_eq!((all(), all_else(&env, unused)), (made.clone(), before.clone()));

    keys(&stack, &files, &["purge"]).await;
    assert_eq!(all(), [by_last, by_early, retired_now, in_use].join("\n"));
    assert_eq!((progress(), all_else(&env, unused)), (String::new(), before));
    let removals = "select count(*) from audit_log where action = 'keys' and detail like 'retired data keys%'";
    assert_eq!(sql(&env, removals), "1");
    replace_apis(&stack).await;
    assert_eq!(patient.history(&doctor, "&before=2").await["messages"][0]["content"], "under the first key");
    stack.stop().unwrap();
}
