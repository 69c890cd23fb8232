//! `first_unread_seq` of inbox rows: always the first message that its owner has not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::audit::{AuditLog, api_service};
use e2e::{TestLocation, TestUser};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::migrations::{another_database, connect};
use crate::{place, stack};

/// What each side of every conversation of a location has not read, counted from the messages, beside what its row says.
const SIDES: &str = "select c.id::text, side, unread, first_unread, reads_match, counted.first, counted.unread_messages
    from conversations c,
         lateral (values ('user', c.user_unread, c.user_first_unread, c.user_id::text, null::text),
                         ('other', c.other_unread, c.other_first_unread, c.peer_user_id::text, c.contact_id::text))
             s (side, unread, first_unread, user_id, contact_id),
         lateral (select min(m.seq), count(*) from messages m where m.conversation_id = c.id and m.read_at is null
                      and (m.receiver_user_id = s.user_id or m.receiver_contact_id = s.contact_id))
             counted (first, unread_messages),
         lateral (select c.first_unread_reads = count(*) from messages m where m.conversation_id = c.id
                      and m.read_at is not null) r (reads_match)
    where c.location_id = $1 and c.last_seq > 0";

/// Compares all rows of a location with their messages, in one snapshot. Returns how many sides have something unread.
async fn assert_rows_are_right(client: &Client, location: &str, at: &str) -> usize {
    let rows = client.query(SIDES, &[&location]).await.unwrap();
    assert!(!rows.is_empty(), "{at}: no conversation");
    let mut unread_sides = 0;
    for row in rows {
        let (unread, first): (i32, Option<i64>) = (row.get("unread"), row.get("first_unread"));
        let counted: (i64, Option<i64>) = (row.get("unread_messages"), row.get("first"));
        assert_eq!((i64::from(unread), first), counted, "{at}: {row:?}");
        assert!(row.get::<_, bool>("reads_match") || unread == 0, "{at}: {row:?}");
        unread_sides += usize::from(unread > 0);
    }
    unread_sides
}

/// The inbox row of a conversation.
async fn row_with(owner: &TestUser, conversation: &Value) -> Value {
    let page = owner.inbox("&limit=100").await;
    let rows = page["conversations"].as_array().unwrap();
    rows.iter().find(|row| row["conversation_id"] == *conversation).cloned().unwrap()
}

/// `first_unread_seq`, and `None` only when it is absent.
async fn first_unread(owner: &TestUser, conversation: &Value) -> Option<i64> {
    row_with(owner, conversation).await.get("first_unread_seq").map(|seq| seq.as_i64().unwrap())
}

/// The first message that the owner has not read, counted from the history.
async fn first_unread_of_history(owner: &TestUser, other: &TestUser) -> Option<i64> {
    let receiver = format!("receiver_{}_id", owner.role);
    let unread = |message: &Value| message["is_read"] == false && message[&receiver] == owner.id.as_str();
    owner.messages(other).await.iter().find(|message| unread(message)).and_then(|message| message["seq"].as_i64())
}

#[tokio::test]
async fn first_unread_seq_is_exact_in_list_and_frames() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let mut at_patient = patient.open_inbox().await;
    let mut ids = Vec::new();
    let own = patient.send_ok(&doctor, "0").await;
    let conversation = &own["conversation_id"];
    assert_eq!(
        (first_unread(&patient, conversation).await, first_unread(&doctor, conversation).await),
        (None, Some(1))
    );
    for number in 1..=5 {
        ids.push(doctor.send_ok(&patient, &number.to_string()).await["id"].clone());
    }
    // The own message has seq 1. Marks: from the middle, the first, over the one that is read already, then the rest.
    let marks: [(&[usize], Option<i64>); 4] = [(&[1], Some(2)), (&[0], Some(4)), (&[2, 3], Some(6)), (&[4], None)];
    assert_eq!(first_unread(&patient, conversation).await, Some(2));
    for (marked, expected) in marks {
        let marked: Vec<&Value> = marked.iter().map(|index| &ids[*index]).collect();
        let _marks = patient.mark("read", &marked).await.expect_status(200);
        let row = row_with(&patient, conversation).await;
        assert_eq!(row.get("first_unread_seq"), expected.map(|seq| json!(seq)).as_ref(), "{row}");
        while at_patient.expect("conversation").await["conversation"] != row {}
    }
    assert_eq!(first_unread(&doctor, conversation).await, Some(1), "marks of the other side leave it");
    let _next = doctor.send_ok(&patient, "6").await;
    let row = row_with(&patient, conversation).await;
    assert_eq!((&row["first_unread_seq"], &row["unread_count"]), (&json!(7), &json!(1)));
    while at_patient.expect("conversation").await["conversation"] != row {}
}

/// Sends and marks in any order, and compares after each of them.
async fn act_at_random(place: &TestLocation, one: &TestUser, other: &TestUser, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let database = AuditLog::open(&place.env.database_url).await.client;
    let conversation = one.send_ok(other, "0").await["conversation_id"].clone();
    for step in 0..60 {
        let (actor, partner) = if rng.random_bool(0.5) { (one, other) } else { (other, one) };
        if rng.random_bool(0.5) {
            // Some reach the database as one batch.
            let texts: Vec<String> = (0..rng.random_range(1..4)).map(|text| text.to_string()).collect();
            futures_util::future::join_all(texts.iter().map(|text| actor.send_ok(partner, text))).await;
        } else {
            let messages = actor.messages(partner).await;
            let marked: Vec<&Value> =
                messages.iter().filter(|_| rng.random_bool(0.3)).map(|message| &message["id"]).collect();
            if !marked.is_empty() {
                let what = if rng.random_bool(0.8) { "read" } else { "delivered" };
                let _marks = actor.mark(what, &marked).await.expect_status(200);
            }
        }
        let at = format!("seed {seed}, step {step}");
        assert_rows_are_right(&database, &place.location, &at).await;
        for (owner, partner) in [(one, other), (other, one)] {
            let counted = first_unread_of_history(owner, partner).await;
            assert_eq!(first_unread(owner, &conversation).await, counted, "{at}, {}", owner.id);
        }
    }
}

#[tokio::test]
async fn first_unread_agrees_with_messages_after_random_sends_and_marks() {
    for seed in [rand::random(), rand::random()] {
        let (place, colleagues) = (place(), place());
        let (doctor, patient) = (place.user("doc"), place.contact("pat"));
        // The first of two users by name is the conversation's first side.
        let (nurse, other) = (colleagues.user("nurse"), colleagues.user("doc"));
        tokio::join!(act_at_random(&place, &doctor, &patient, seed), act_at_random(&colleagues, &nurse, &other, seed),);
    }
}

/// Marks at random what it receives, and answers now and then, through one of two services.
async fn act_beside_others(actor: TestUser, partner: TestUser, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for number in 0..25 {
        if rng.random_bool(0.6) {
            actor.send_ok(&partner, &number.to_string()).await;
            continue;
        }
        let page = actor.history(&partner, "&limit=200").await;
        let messages = page["messages"].as_array().unwrap();
        let marked: Vec<&Value> =
            messages.iter().filter(|_| rng.random_bool(0.4)).map(|message| &message["id"]).collect();
        if !marked.is_empty() {
            let _marks = actor.mark("read", &marked).await.expect_status(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_unread_agrees_with_messages_at_every_commit() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    doctor.send_ok(&patient, "0").await;
    let is_over = Arc::new(AtomicBool::new(false));
    // Every snapshot shows what some transactions have committed.
    let watching = tokio::spawn({
        let (is_over, location) = (is_over.clone(), place.location.clone());
        let database = AuditLog::open(&place.env.database_url).await.client;
        async move {
            let (mut looked, mut unread_sides) = (0, 0);
            while !is_over.load(Ordering::Relaxed) {
                unread_sides += assert_rows_are_right(&database, &location, "beside sends and marks").await;
                looked += 1;
            }
            assert_rows_are_right(&database, &location, "at the end").await;
            (looked, unread_sides)
        }
    });
    let seed: u64 = rand::random();
    let urls = place.env.api_urls.clone();
    let acting = (0..8_u64).map(|number| {
        let url = &urls[number as usize % 2];
        let pair = [doctor.at(url, ""), patient.at(url, "")];
        let [actor, partner] = if number < 4 { pair } else { [pair[1].clone(), pair[0].clone()] };
        tokio::spawn(act_beside_others(actor, partner, seed.wrapping_add(number)))
    });
    for acted in futures_util::future::join_all(acting).await {
        acted.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    is_over.store(true, Ordering::Relaxed);
    let (looked, unread_sides) = watching.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert!(looked > 10 && unread_sides > 0, "{looked} snapshots, {unread_sides} unread");
}

/// What a service of the version before writes for a read mark, and for a send.
const OLD_MARK: &str = "with marked as (
        update messages set read_at = clock_timestamp(), delivered_at = clock_timestamp()
        where conversation_id = $1 and seq = any($2) and receiver_contact_id is not null and read_at is null returning id
    )
    update conversations set other_unread = other_unread - (select count(*) from marked)::integer where id = $1";
const OLD_SEND: &str = "with bumped as (
        update conversations set last_seq = last_seq + 1, other_unread = other_unread + 1,
            last_activity_at = clock_timestamp() where id = $1 returning id, last_seq, last_activity_at
    )
    insert into messages (id, location_id, sender_user_id, receiver_contact_id, content, sent_at, conversation_id, seq)
    select gen_random_uuid(), m.location_id, m.sender_user_id, m.receiver_contact_id, 'old', b.last_activity_at, b.id, b.last_seq
    from bumped b join messages m on m.conversation_id = b.id and m.seq = 1";

#[tokio::test]
async fn rows_of_previous_version_are_searched() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let database = AuditLog::open(&place.env.database_url).await.client;
    let mut at_patient = patient.open_inbox().await;
    let mut sent = Vec::new();
    for number in 1..=6 {
        sent.push(doctor.send_ok(&patient, &number.to_string()).await);
    }
    let conversation = &sent[0]["conversation_id"];
    let id: uuid::Uuid = conversation.as_str().unwrap().parse().unwrap();
    let old_mark = async |seqs: &[i64]| assert_eq!(database.execute(OLD_MARK, &[&id, &seqs]).await.unwrap(), 1);
    let old_send = async || assert_eq!(database.execute(OLD_SEND, &[&id]).await.unwrap(), 1);
    let shown = async || first_unread(&patient, conversation).await;

    old_mark(&[1, 2, 4]).await;
    assert_eq!(shown().await, Some(3), "the stored one was read");
    // A send of this version does not know it either: the frame shows what is counted.
    let answer = patient.send_ok(&doctor, "7").await;
    assert_eq!(first_unread(&doctor, conversation).await, Some(7));
    let row = row_with(&patient, conversation).await;
    assert_eq!((&row["first_unread_seq"], &row["last_message"]["id"]), (&json!(3), &answer["id"]));
    while at_patient.expect("conversation").await["conversation"] != row {}

    // The next mark of this version stores it again.
    let _marks = patient.mark("read", &[&sent[4]["id"]]).await.expect_status(200);
    assert_eq!(shown().await, Some(3));
    assert_rows_are_right(&database, &place.location, "after a mark of this version").await;

    old_mark(&[3, 6]).await;
    assert_eq!(shown().await, None, "nothing is unread");
    old_send().await;
    old_send().await;
    assert_eq!(shown().await, Some(8), "not the one of before");
    old_mark(&[8, 9]).await;
    let _newest = doctor.send_ok(&patient, "10").await;
    assert_eq!(shown().await, Some(10));
    let _marks = doctor.mark("read", &[&answer["id"]]).await.expect_status(200);
    assert_eq!(shown().await, Some(10), "marks of the other side count this side as well");
    assert_rows_are_right(&database, &place.location, "in the end").await;
}

/// Inserts a conversation of the version before. `$unread` is a condition on the number of a message, `n`. Odd ones are to the user.
async fn insert_conversation(client: &Client, name: &str, messages: i64, unread: &str) {
    let statement = format!(
        "insert into conversations (id, location_id, user_id, contact_id, last_seq, last_activity_at, user_unread, other_unread)
         select md5('{name}')::uuid, 'loc1', 'doc', '{name}', {messages}, now(),
                count(*) filter (where ({unread}) and n % 2 = 1), count(*) filter (where ({unread}) and n % 2 = 0)
         from generate_series(1, {messages}) n;
         insert into messages (id, location_id, sender_user_id, receiver_contact_id, sender_contact_id, receiver_user_id,
             conversation_id, seq, content, sent_at, delivered_at, read_at)
         select gen_random_uuid(), 'loc1', case when n % 2 = 0 then 'doc' end, case when n % 2 = 0 then '{name}' end,
                case when n % 2 = 1 then '{name}' end, case when n % 2 = 1 then 'doc' end,
                md5('{name}')::uuid, n, 'text', now(), now(), case when not ({unread}) then now() end
         from generate_series(1, {messages}) n"
    );
    client.batch_execute(&statement).await.unwrap();
}

/// Conversations with unread messages whose columns do not hold.
const UNKNOWN: &str = "select count(*) from conversations where user_unread + other_unread > 0
    and (first_unread_reads is distinct from last_seq - user_unread - other_unread
         or user_unread > 0 and coalesce(user_first_unread, 0) <= 0 or other_unread > 0 and coalesce(other_first_unread, 0) <= 0)";

/// As a service of an earlier version leaves rows that it marked in.
async fn spoil(owner: &tokio_postgres::Client) {
    owner.batch_execute("update conversations set first_unread_reads = -1").await.unwrap();
}

async fn count(owner: &tokio_postgres::Client, statement: &str) -> i64 {
    owner.query_one(statement, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn migration_finds_first_unread_of_existing_conversations() {
    let url = another_database("migrated_with_unread").await;
    let env = stack().env();
    assert!(api_service(&env, &url, &["migrate", "--to", "12"]).await.status.success());
    let owner = connect(&url).await;
    insert_conversation(&owner, "all-read", 20, "false").await;
    insert_conversation(&owner, "all-unread", 20, "true").await;
    insert_conversation(&owner, "tail", 40, "n > 30").await;
    insert_conversation(&owner, "one-side", 40, "n in (8, 12, 14)").await;
    // Far from both ends: found in parts.
    insert_conversation(&owner, "long", 45_000, "n in (22500, 22501)").await;

    let done = api_service(&env, &url, &["migrate"]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(assert_rows_are_right(&owner, "loc1", "after the migration").await, 7);
    let long = "select user_first_unread, other_first_unread from conversations where contact_id = 'long'";
    let row = owner.query_one(long, &[]).await.unwrap();
    assert_eq!((row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1)), (Some(22_501), Some(22_500)));

    // A session holds a row: it is left out, and `migrate` ends all the same.
    spoil(&owner).await;
    let holder = connect(&url).await;
    holder.batch_execute("begin; select from conversations where contact_id = 'tail' for update").await.unwrap();
    let done = api_service(&env, &url, &["migrate"]).await;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.contains("conversations in use and left out: 1."), "{said}");
    assert_eq!(count(&owner, UNKNOWN).await, 1);
    assert_eq!(count(&owner, "select count(*) from progress").await, 0);
    holder.batch_execute("rollback").await.unwrap();

    // One that was stopped goes on behind its position.
    spoil(&owner).await;
    let resumed = "insert into progress (name, position)
        select 'first unread', id from conversations order by id offset 2 limit 1";
    owner.execute(resumed, &[]).await.unwrap();
    assert!(api_service(&env, &url, &["migrate"]).await.status.success());
    let before = format!("{UNKNOWN} and id <= (select id from conversations order by id offset 2 limit 1)");
    let left = count(&owner, UNKNOWN).await;
    assert!(left > 0 && count(&owner, &before).await == left, "{left}");

    // Each migration looks at all conversations: a service of an earlier version may have written since.
    spoil(&owner).await;
    let again = api_service(&env, &url, &["migrate"]).await;
    assert!(String::from_utf8_lossy(&again.stdout).contains("the schema is up to date"), "{again:?}");
    assert_eq!(assert_rows_are_right(&owner, "loc1", "after another migration").await, 7);
    assert_eq!(count(&owner, UNKNOWN).await, 0);
}

/// Between two unread messages are more read ones than one mark searches.
#[tokio::test]
async fn far_jump_is_searched_in_bounded_parts() {
    let place = place();
    let (doctor, patient) = (place.user("doc"), place.contact("pat"));
    let database = AuditLog::open(&place.env.database_url).await.client;
    let first = doctor.send_ok(&patient, "1").await;
    let (conversation, id) = (&first["conversation_id"], first["conversation_id"].as_str().unwrap().to_owned());
    let fill = format!(
        "insert into messages (id, location_id, sender_user_id, receiver_contact_id, conversation_id, seq, content,
             sent_at, delivered_at, read_at)
         select case when n = 13000 then md5('{id}')::uuid else gen_random_uuid() end, '{location}', 'doc', 'pat', '{id}', n,
                'text', now(), now(), case when n not in (2, 13000, 30000) then now() end
         from generate_series(2, 30000) n;
         update conversations set last_seq = 30000, other_unread = 4, first_unread_reads = 30000 - 4 where id = '{id}'",
        location = place.location
    );
    database.batch_execute(&fill).await.unwrap();
    let second = doctor.history(&patient, "&after=1&limit=1").await["messages"][0]["id"].clone();
    assert_eq!(first_unread(&patient, conversation).await, Some(1));
    let _marks = patient.mark("read", &[&first["id"]]).await.expect_status(200);
    assert_eq!(first_unread(&patient, conversation).await, Some(2));
    let _marks = patient.mark("read", &[&second]).await.expect_status(200);
    let row = row_with(&patient, conversation).await;
    assert_eq!((&row["unread_count"], row.get("first_unread_seq")), (&json!(2), None), "not known yet, and not wrong");
    // The next mark continues behind what was searched: 13,000 is read now, and the last one is near the end.
    let middle = database.query_one("select md5($1)::uuid::text", &[&id]).await.unwrap().get::<_, String>(0);
    let _marks = patient.mark("read", &[&json!(middle)]).await.expect_status(200);
    assert_eq!(first_unread(&patient, conversation).await, Some(30_000));
    assert_rows_are_right(&database, &place.location, "in the end").await;
}
