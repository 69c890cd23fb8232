//! A client that openapi-generator generates from openapi.yaml sends, reads, marks and lists, with typed models and failures.

use std::env::var;

use ehr_chat::apis::configuration::Configuration;
use ehr_chat::apis::conversations_api::{get_presence, list_conversations};
use ehr_chat::apis::health_api::{get_health, get_readiness};
use ehr_chat::apis::messages_api::{GetHistoryError, SendMessageError, get_history, send_message};
use ehr_chat::apis::receipts_api::{mark_delivered, mark_read};
use ehr_chat::apis::{Error, ResponseContent};
use ehr_chat::models::{MarkMessages, Message, Problem, SendMessage};
use uuid::Uuid;

fn client(token: Option<String>) -> Configuration {
    Configuration { base_path: var("BASE_URL").unwrap(), bearer_access_token: token, ..Configuration::new() }
}

fn doctor() -> Configuration {
    client(Some(var("DOCTOR_TOKEN").unwrap()))
}

fn patient() -> Configuration {
    client(Some(var("PATIENT_TOKEN").unwrap()))
}

fn to_patient(content: &str) -> SendMessage {
    SendMessage {
        sender_user_id: Some("doc123".to_owned()),
        receiver_contact_id: Some("pat456".to_owned()),
        ..SendMessage::new("loc1".to_owned(), content.to_owned())
    }
}

async fn send(content: &str) -> Message {
    send_message(&doctor(), to_patient(content)).await.unwrap()
}

async fn after(seq: i64) -> Vec<Message> {
    let page = get_history(&patient(), "loc1", "doc123", Some("pat456"), None, None, None, Some(seq)).await.unwrap();
    assert!(!page.has_more);
    page.messages
}

#[tokio::test]
async fn a_message_that_was_sent_is_read_back_with_its_types() {
    let sent = send("Hello patient!").await;
    assert_eq!((sent.id.get_version_num(), sent.content.as_str(), sent.is_read), (7, "Hello patient!", false));
    assert_eq!((sent.client_message_id, sent.delivered_at, sent.read_at), (None, None, None));
    assert_eq!((sent.sent_at.offset().local_minus_utc(), sent.receiver_contact_id.as_deref()), (0, Some("pat456")));
    let read_back = after(sent.seq - 1).await.remove(0);
    assert_eq!(read_back.id, sent.id);
    // Another test may have marked the whole conversation meanwhile.
    assert_eq!(Message { delivered_at: None, read_at: None, is_read: false, ..read_back }, sent);
}

#[tokio::test]
async fn a_retry_gives_the_same_message() {
    let body = SendMessage { client_message_id: Some(Uuid::new_v4()), ..to_patient("once") };
    let first = send_message(&doctor(), body.clone()).await.unwrap();
    let again = send_message(&doctor(), body.clone()).await.unwrap();
    assert_eq!((again.id, again.seq, again.client_message_id), (first.id, first.seq, body.client_message_id));
    let other = SendMessage { content: "twice".to_owned(), ..body };
    let Err(Error::ResponseError(ResponseContent { status, entity, .. })) = send_message(&doctor(), other).await else {
        panic!("another message has the same client_message_id");
    };
    assert_eq!(status, 409);
    // All failures have the same body, so the generated enum takes its first variant. The body has the status.
    assert!(matches!(entity, Some(SendMessageError::Status400(Problem { status: 409, .. }))), "{entity:?}");
}

#[tokio::test]
async fn marks_are_typed_and_seen_by_the_sender() {
    let (sent, unknown) = (send("Are you there?").await, Uuid::new_v4());
    let marks = || MarkMessages::new(vec![sent.id, unknown]);
    let delivered = mark_delivered(&patient(), marks()).await.unwrap();
    assert_eq!(
        (delivered.not_found, delivered.marked[0].id, delivered.marked[0].read_at),
        (vec![unknown], sent.id, None)
    );
    let read = mark_read(&patient(), marks()).await.unwrap();
    assert_eq!(read.marked[0].delivered_at, delivered.marked[0].delivered_at);
    let seen = after(sent.seq - 1).await.remove(0);
    assert_eq!((seen.id, seen.is_read, seen.read_at), (sent.id, true, read.marked[0].read_at));
}

#[tokio::test]
async fn the_inbox_is_typed() {
    let sent = send("In your inbox").await;
    let inbox = list_conversations(&patient(), "loc1", None, None, None, None).await.unwrap();
    let row = &inbox.conversations[0];
    assert_eq!(
        (row.user_id.as_str(), row.contact_id.as_deref(), row.peer_user_id.as_deref()),
        ("doc123", Some("pat456"), None)
    );
    assert!(row.last_message.seq >= sent.seq && row.conversation_id == sent.conversation_id);
}

#[tokio::test]
async fn presence_is_typed_and_asked_for_of_several_people_at_once() {
    send("Are you online?").await;
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let seen = get_presence(&doctor(), "loc1", names(&["doc123"]), names(&["pat456", "unknown"])).await.unwrap();
    let seen: Vec<_> = seen
        .participants
        .iter()
        .map(|one| (one.user_id.as_deref(), one.contact_id.as_deref(), one.online, one.last_seen_at))
        .collect();
    assert_eq!(seen, [(Some("doc123"), None, false, None), (None, Some("pat456"), false, None)]);
    let seen = get_presence(&patient(), "loc1", names(&["doc123"]), None).await.unwrap();
    assert_eq!(seen.participants.len(), 1);
}

#[tokio::test]
async fn failures_are_typed_problems() {
    let stranger = client(Some("nonsense".to_owned()));
    let refused = get_history(&stranger, "loc1", "doc123", Some("pat456"), None, None, None, None).await;
    let Err(Error::ResponseError(ResponseContent { status, entity, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!(status, 401);
    let Some(GetHistoryError::Status400(problem)) = entity else { panic!("{entity:?}") };
    assert_eq!((problem.status, problem.title.as_str(), problem.errors), (401, "Unauthorized", None));

    let invalid = send_message(&doctor(), to_patient("")).await;
    let Err(Error::ResponseError(ResponseContent { content, .. })) = invalid else { panic!("{invalid:?}") };
    assert!(content.contains("/content") && content.contains("request_id"), "{content}");
}

#[tokio::test]
async fn health_needs_no_token() {
    get_health(&client(None)).await.unwrap();
    get_readiness(&client(None)).await.unwrap();
}
