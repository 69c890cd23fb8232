//! Presence: sent to the peers of a conversation when it changes, and to no other client.

use std::time::Duration;

use fred::interfaces::{HashesInterface, KeysInterface, PubsubInterface, SortedSetsInterface, StreamsInterface};
use fred::types::streams::XReadResponse;
use serde_json::{Value, json};
use shared::contract::participant::Conversation;
use shared::contract::presence::{ConversationCheck, Notice};
use shared::contract::redis::keys::{CONVERSATION_CHECK_STREAM, Channel};
use shared::contract::redis::presence::PresenceKeys;
use tokio::time::{Instant, interval, timeout};

use crate::support::{
    Client, Gateway, GatewayProcess, QUERY, RedisServer, TEST_TIMEOUT, channel, conversation, doctor, patient, service,
    token_for,
};

/// The shortest lease, and no grace period.
const SHORT_LEASE: [(&str, &str); 2] = [("PRESENCE_TTL_SECONDS", "3"), ("PRESENCE_LINGER_SECONDS", "0")];
const INBOX_OF_DOCTOR: &str = "location_id=loc1&user_id=doc123";
const INBOX_OF_PATIENT: &str = "location_id=loc1&contact_id=pat456";

const NOTHING: [Value; 0] = [];

fn names() -> PresenceKeys {
    PresenceKeys::new(&"loc1".parse().unwrap())
}

async fn online(client: &mut Client) -> Value {
    let frame = client.presence().await;
    assert_eq!(frame["online"], true, "{frame}");
    assert!(frame["last_seen_at"].is_null(), "{frame}");
    frame
}

async fn offline(client: &mut Client) -> Value {
    let frame = client.presence().await;
    assert_eq!(frame["online"], false, "{frame}");
    assert!(frame["last_seen_at"].as_str().unwrap().ends_with('Z'), "{frame}");
    frame
}

/// Waits until Redis has this participant at so many gateways.
async fn wait_for_holders(redis: &RedisServer, who: &str, gateways: i64) {
    let client = redis.client().await;
    let key = names().participant(&who.parse().unwrap());
    let waiting = async {
        let mut beat = interval(Duration::from_millis(10));
        loop {
            beat.tick().await;
            let fields: Vec<String> = client.hkeys(&key).await.unwrap();
            if fields.iter().filter(|field| !matches!(field.as_str(), "at" | "seen")).count() as i64 == gateways {
                return;
            }
        }
    };
    timeout(TEST_TIMEOUT, waiting).await.unwrap_or_else(|_| panic!("{who} is not at {gateways} gateways"));
}

/// A conversation with a message, as all gateways with sockets of it know.
async fn write_message(redis: &RedisServer) {
    redis.publisher().await.message(&channel(), "contact:pat456", "Hello").await;
}

/// The same with the nurse.
async fn write_message_to_nurse(redis: &RedisServer) {
    let [location, doctor, nurse] = ["loc1", "user:doc123", "user:nurse"];
    let pair = Conversation::new(location.parse().unwrap(), doctor.parse().unwrap(), nurse.parse().unwrap());
    redis.publisher().await.message(&Channel::from(&pair.unwrap()), nurse, "Hello").await;
}

#[tokio::test]
async fn presence_reaches_only_conversation_peers() {
    let redis = RedisServer::start();
    let gateways = [Gateway::start(&redis, &SHORT_LEASE).await, Gateway::start(&redis, &SHORT_LEASE).await];
    let (mut watcher, _) = Client::open(gateways[0].address, QUERY, &service()).await;
    let (mut here, _) = Client::open(gateways[0].address, QUERY, &doctor()).await;
    let stranger = token_for("nurse", Some(shared::contract::participant::ParticipantKind::User), 3600);
    let beside = "location_id=loc1&user_id=nurse&contact_id=pat456";
    let (mut stranger, _) = Client::open(gateways[0].address, beside, &stranger).await;
    let (mut inbox, _) = Client::open(gateways[0].address, INBOX_OF_DOCTOR, &doctor()).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    write_message(&redis).await;
    assert_eq!(here.frame().await["type"], "message");
    assert_eq!(watcher.frame().await["type"], "message");
    // The doctor came after the watcher, which may see that if its gateway knew of the conversation in time.
    let early = watcher.all_presence().await;
    assert!(early.iter().all(|frame| frame["user_id"] == "doc123" && frame["online"] == true), "{early:?}");

    // An inbox socket counts as presence. A second socket changes nothing.
    let (first, _) = Client::open(gateways[1].address, INBOX_OF_PATIENT, &patient()).await;
    assert_eq!(online(&mut here).await["contact_id"], "pat456");
    assert_eq!(online(&mut watcher).await["contact_id"], "pat456");
    let (second, _) = Client::open(gateways[0].address, QUERY, &patient()).await;
    wait_for_holders(&redis, "contact:pat456", 2).await;
    drop(first);
    wait_for_holders(&redis, "contact:pat456", 1).await;
    drop(second);
    let gone = offline(&mut here).await;
    assert_eq!(offline(&mut watcher).await, gone);
    assert_eq!(
        gone,
        json!({"type": "presence", "contact_id": "pat456", "online": false, "last_seen_at": gone["last_seen_at"]})
    );

    // A service token has no presence. What its gateway writes next comes after this.
    let (_unseen, _) = Client::open(gateways[1].address, QUERY, &service()).await;
    let nurse = token_for("nurse", Some(shared::contract::participant::ParticipantKind::User), 3600);
    let (_nurse, _) = Client::open(gateways[1].address, "location_id=loc1&user_id=nurse", &nurse).await;
    wait_for_holders(&redis, "user:nurse", 2).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    wait_for_holders(&redis, "contact:pat456", 0).await;
    for client in [&mut here, &mut watcher, &mut stranger, &mut inbox] {
        assert_eq!(client.all_presence().await, NOTHING, "and nothing else");
    }
}

#[tokio::test]
async fn presence_is_withheld_until_conversation_exists() {
    let redis = RedisServer::start();
    let short_lease = [&SHORT_LEASE[..], &[("RECONCILE_INTERVAL_SECONDS", "1")]].concat();
    let gateway = Gateway::start(&redis, &short_lease).await;
    let (mut here, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    let (_there, _) = Client::open(gateway.address, INBOX_OF_PATIENT, &patient()).await;
    let client = redis.client().await;
    let conversation = conversation("loc1", "doc123", "pat456").id();
    // An unanswered check is repeated once.
    let mut after = "0".to_owned();
    for _ in 0..2 {
        let asked: XReadResponse<String, String, String, String> =
            client.xread_map(Some(1), Some(30_000), CONVERSATION_CHECK_STREAM, after).await.unwrap();
        let (place, fields) = &asked[CONVERSATION_CHECK_STREAM][0];
        let question = ConversationCheck::decode(&fields["r"]).unwrap();
        assert_eq!(question, ConversationCheck { location: "loc1".parse().unwrap(), conversation });
        assert_eq!(here.all_presence().await, NOTHING);
        after = place.clone();
    }
    client.publish::<(), _, _>(names().channel(), Notice::conversation_exists(conversation)).await.unwrap();
    online(&mut here).await;
}

#[tokio::test]
async fn page_reload_does_not_change_presence() {
    let redis = RedisServer::start();
    let gateways =
        [Gateway::start(&redis, &[("PRESENCE_LINGER_SECONDS", "2")]).await, Gateway::start(&redis, &[]).await];
    let (mut here, _) = Client::open(gateways[0].address, QUERY, &doctor()).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    write_message(&redis).await;
    let mut page = Client::open(gateways[0].address, QUERY, &patient()).await.0;
    online(&mut here).await;
    for gateway in [&gateways[0], &gateways[1]] {
        drop(page);
        page = Client::open(gateway.address, QUERY, &patient()).await.0;
    }
    // The gateway that it left removes it, without a visible change.
    wait_for_holders(&redis, "contact:pat456", 2).await;
    wait_for_holders(&redis, "contact:pat456", 1).await;
    assert_eq!(here.all_presence().await, NOTHING);
    // The time is that of the last close, not that of the notice.
    let before = time::OffsetDateTime::now_utc();
    drop(page);
    let seen = offline(&mut here).await["last_seen_at"].as_str().unwrap().to_owned();
    let seen = time::OffsetDateTime::parse(&seen, &time::format_description::well_known::Rfc3339).unwrap();
    assert!((seen - before).abs() < Duration::from_millis(1500), "{seen} {before}");
}

#[tokio::test]
async fn lease_end_expires_participants_of_killed_gateway() {
    let redis = RedisServer::start();
    let gateway = Gateway::start(&redis, &SHORT_LEASE).await;
    let dying = GatewayProcess::start(&redis, &[SHORT_LEASE[0], SHORT_LEASE[1], ("REDIS_TIMEOUT_SECONDS", "1")]).await;
    let (mut here, _) = Client::open(gateway.address, QUERY, &doctor()).await;
    let (mut at_nurse, _) =
        Client::open(gateway.address, "location_id=loc1&user_id=doc123&peer_user_id=nurse", &doctor()).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    write_message(&redis).await;
    write_message_to_nurse(&redis).await;
    let (_lost, _) = Client::open(dying.address, QUERY, &patient()).await;
    let nurse = token_for("nurse", Some(shared::contract::participant::ParticipantKind::User), 3600);
    let inbox_of_nurse = "location_id=loc1&user_id=nurse";
    let (_moving, _) = Client::open(dying.address, inbox_of_nurse, &nurse).await;
    online(&mut here).await;
    online(&mut at_nurse).await;
    drop(dying);
    let (_moved, _) = Client::open(gateway.address, inbox_of_nurse, &nurse).await;
    let began = Instant::now();
    offline(&mut here).await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(at_nurse.all_presence().await, NOTHING, "the nurse was never away");
    wait_for_holders(&redis, "user:nurse", 1).await;
    let client = redis.client().await;
    let leases: Vec<String> = client.zrange(names().leases(), 0, -1, None, false, None, false).await.unwrap();
    assert_eq!(leases.len(), 1, "nothing is kept of a dead gateway");
}

#[tokio::test]
async fn drained_gateway_leaves_participants_online() {
    let redis = RedisServer::start();
    // Longer than a socket takes to close, so the closing gateway writes no participant offline.
    let short_lease = [("PRESENCE_TTL_SECONDS", "3"), ("PRESENCE_LINGER_SECONDS", "5"), ("DRAIN_SECONDS", "0")];
    let staying = Gateway::start(&redis, &short_lease).await;
    let going = Gateway::start(&redis, &short_lease).await;
    let (mut here, _) = Client::open(staying.address, QUERY, &doctor()).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    write_message(&redis).await;
    let with_nurse = "location_id=loc1&user_id=doc123&peer_user_id=nurse";
    let (mut with_nurse, _) = Client::open(staying.address, with_nurse, &doctor()).await;
    write_message_to_nurse(&redis).await;
    let (mut there, _) = Client::open(going.address, QUERY, &patient()).await;
    online(&mut here).await;
    let nurse = token_for("nurse", Some(shared::contract::participant::ParticipantKind::User), 3600);
    let (_leaves_for_good, _) = Client::open(going.address, "location_id=loc1&user_id=nurse", &nurse).await;
    online(&mut with_nurse).await;
    going.shutdown.begin();
    assert_eq!(there.closed().await.0, 1001);
    let (there, _) = Client::open(staying.address, QUERY, &patient()).await;
    going.running.await.unwrap().unwrap();
    wait_for_holders(&redis, "contact:pat456", 1).await;
    offline(&mut with_nurse).await;
    assert_eq!(here.all_presence().await, NOTHING);
    drop(there);
    offline(&mut here).await;
}

#[tokio::test]
async fn lost_presence_is_rewritten_and_missed_notices_are_polled() {
    let mut redis = RedisServer::start();
    let settings = [SHORT_LEASE[0], SHORT_LEASE[1], ("RECONCILE_INTERVAL_SECONDS", "1")];
    let gateways = [Gateway::start(&redis, &settings).await, Gateway::start(&redis, &settings).await];
    let (mut here, _) = Client::open(gateways[0].address, QUERY, &doctor()).await;
    wait_for_holders(&redis, "user:doc123", 1).await;
    write_message(&redis).await;
    let (there, _) = Client::open(gateways[1].address, QUERY, &patient()).await;
    online(&mut here).await;
    redis.kill();
    assert_eq!(here.frame_beside("message").await["type"], "degraded");
    redis.restart_empty_after_kill();
    assert_eq!(here.frame_beside("resync").await["type"], "recovered");
    wait_for_holders(&redis, "user:doc123", 1).await;
    wait_for_holders(&redis, "contact:pat456", 1).await;

    // Pretends that the notice was lost, by deleting the entry directly.
    drop(there);
    offline(&mut here).await;
    let client = redis.client().await;
    let lasting = (names().leases(), names().participant(&"contact:pat456".parse().unwrap()));
    let () = client.zadd(&lasting.0, None, None, false, false, (4_000_000_000_000.0, "silent")).await.unwrap();
    let () = client.hset(&lasting.1, ("silent", "")).await.unwrap();
    online(&mut here).await;
    let () = client.del(&lasting.1).await.unwrap();
    let frame = here.presence().await;
    assert_eq!((&frame["online"], &frame["last_seen_at"]), (&json!(false), &json!(null)));
}

#[tokio::test]
async fn emptied_location_gets_new_lease_id() {
    let redis = RedisServer::start();
    let settings = [("PRESENCE_LINGER_SECONDS", "0")];
    let gateway = GatewayProcess::start(&redis, &settings).await;
    let client = redis.client().await;
    let doctors = names().participant(&"user:doc123".parse().unwrap());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let (socket, _) = Client::open(gateway.address, INBOX_OF_DOCTOR, &doctor()).await;
        wait_for_holders(&redis, "user:doc123", 1).await;
        let fields: Vec<String> = client.hkeys(&doctors).await.unwrap();
        seen.extend(fields.into_iter().filter(|field| !matches!(field.as_str(), "at" | "seen")));
        drop(socket);
        wait_for_holders(&redis, "user:doc123", 0).await;
        // The location is removed with its last participant, once the gateway knows that Redis has the update.
        let forgotten = async { while gateway.metric("ehr_chat_gateway_presence_participants").await > 0 {} };
        timeout(TEST_TIMEOUT, forgotten).await.unwrap();
    }
    assert_eq!(seen.len(), 2, "stale entries under that id would be online again");
}
