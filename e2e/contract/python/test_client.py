"""A client generated from openapi.yaml sends, reads history, marks read and lists conversations, with typed models."""

import datetime
import os
import uuid

import pytest
from ehr_chat import AuthenticatedClient, Client
from ehr_chat.api.conversations import get_presence, list_conversations
from ehr_chat.api.health import get_health, get_readiness
from ehr_chat.api.messages import get_history, send_message
from ehr_chat.api.receipts import mark_delivered, mark_read
from ehr_chat.models import History, Inbox, MarkMessages, Marks, Message, Participants, Problem, SendMessage
from ehr_chat.types import UNSET

BASE_URL = os.environ["BASE_URL"]
PAIR = {"location_id": "loc1", "user_id": "doc123", "contact_id": "pat456"}


@pytest.fixture
def doctor() -> AuthenticatedClient:
    return AuthenticatedClient(base_url=BASE_URL, token=os.environ["DOCTOR_TOKEN"])


@pytest.fixture
def patient() -> AuthenticatedClient:
    return AuthenticatedClient(base_url=BASE_URL, token=os.environ["PATIENT_TOKEN"])


def send(client: AuthenticatedClient, **changes: object) -> Message:
    body = SendMessage(
        location_id="loc1", sender_user_id="doc123", receiver_contact_id="pat456", content="Hello patient!"
    )
    for field, value in changes.items():
        setattr(body, field, value)
    answer = send_message.sync_detailed(client=client, body=body)
    assert answer.status_code in (200, 201), answer
    assert isinstance(answer.parsed, Message)
    return answer.parsed


def test_a_sent_message_is_typed(doctor: AuthenticatedClient) -> None:
    message = send(doctor)
    assert isinstance(message.id, uuid.UUID) and message.id.version == 7
    assert isinstance(message.conversation_id, uuid.UUID)
    assert isinstance(message.sent_at, datetime.datetime) and message.sent_at.utcoffset() == datetime.timedelta(0)
    assert message.seq >= 1 and message.content == "Hello patient!"
    assert (message.client_message_id, message.delivered_at, message.read_at) == (None, None, None)
    assert message.is_read is False


def test_a_retry_gives_the_same_message(doctor: AuthenticatedClient) -> None:
    key = uuid.uuid4()
    first = send(doctor, client_message_id=key)
    again = send(doctor, client_message_id=key)
    assert first.client_message_id == key and first.id == again.id and first.seq == again.seq


def test_history_holds_what_was_sent(doctor: AuthenticatedClient, patient: AuthenticatedClient) -> None:
    sent = [send(doctor, content=str(number)) for number in range(3)]
    page = get_history.sync(client=patient, limit=2, **PAIR)
    assert isinstance(page, History) and page.has_more and page.conversation_id == sent[0].conversation_id
    assert [message.id for message in page.messages] == [message.id for message in sent[1:]]
    after = get_history.sync(client=doctor, after=sent[0].seq, **PAIR)
    assert isinstance(after, History) and [message.content for message in after.messages] == ["1", "2"]
    before = get_history.sync(client=doctor, before=sent[1].seq, limit=1, **PAIR)
    assert isinstance(before, History) and before.messages[0].id == sent[0].id


def test_marks_are_typed_and_seen_by_the_sender(doctor: AuthenticatedClient, patient: AuthenticatedClient) -> None:
    message, unknown = send(doctor), uuid.uuid4()
    body = MarkMessages(message_ids=[message.id, unknown])
    delivered = mark_delivered.sync(client=patient, body=body)
    assert isinstance(delivered, Marks) and delivered.not_found == [unknown]
    assert delivered.marked[0].id == message.id and delivered.marked[0].read_at is None
    read = mark_read.sync(client=patient, body=body)
    assert isinstance(read, Marks) and isinstance(read.marked[0].read_at, datetime.datetime)
    assert read.marked[0].delivered_at == delivered.marked[0].delivered_at
    page = get_history.sync(client=doctor, limit=1, **PAIR)
    assert isinstance(page, History) and page.messages[0].is_read and page.messages[0].read_at == read.marked[0].read_at


def test_the_inbox_is_typed(doctor: AuthenticatedClient, patient: AuthenticatedClient) -> None:
    message = send(doctor)
    inbox = list_conversations.sync(client=patient, location_id="loc1")
    assert isinstance(inbox, Inbox) and inbox.next_cursor is None
    (row,) = inbox.conversations
    assert (row.user_id, row.contact_id) == ("doc123", "pat456")
    assert row.unread_count >= 1 and row.last_message.id == message.id and row.last_activity_at == message.sent_at


def test_presence_is_typed_and_asked_for_of_several_people_at_once(
    doctor: AuthenticatedClient, patient: AuthenticatedClient
) -> None:
    send(doctor)
    seen = get_presence.sync(client=doctor, location_id="loc1", user_id=["doc123"], contact_id=["pat456", "unknown"])
    assert isinstance(seen, Participants)
    names = [(one.user_id, one.contact_id) for one in seen.participants]
    assert names == [("doc123", UNSET), (UNSET, "pat456")]
    assert [(one.online, one.last_seen_at) for one in seen.participants] == [(False, None), (False, None)]
    seen = get_presence.sync(client=patient, location_id="loc1", user_id=["doc123"])
    assert isinstance(seen, Participants) and [one.user_id for one in seen.participants] == ["doc123"]
    problem = get_presence.sync(client=doctor, location_id="loc1")
    assert isinstance(problem, Problem) and problem.status == 422


def test_failures_are_typed_problems(doctor: AuthenticatedClient) -> None:
    refused = send_message.sync_detailed(
        client=doctor, body=SendMessage(location_id="loc1", content="", sender_user_id="doc123")
    )
    assert refused.status_code == 422 and isinstance(refused.parsed, Problem)
    assert refused.parsed.request_id == refused.headers["x-request-id"]
    assert {error.pointer for error in refused.parsed.errors} >= {"/receiver_user_id"}
    stranger = AuthenticatedClient(base_url=BASE_URL, token="nonsense")
    refused = get_history.sync_detailed(client=stranger, **PAIR)
    assert refused.status_code == 401 and isinstance(refused.parsed, Problem) and refused.parsed.status == 401
    assert refused.parsed.code == "token_malformed"
    foreign = get_history.sync(client=doctor, location_id="loc2", user_id="doc123", contact_id="pat456")
    assert isinstance(foreign, Problem) and (foreign.status, foreign.code) == (403, "forbidden")


def test_health_needs_no_token() -> None:
    client = Client(base_url=BASE_URL)
    assert get_health.sync_detailed(client=client).status_code == 200
    assert get_readiness.sync_detailed(client=client).status_code == 200
