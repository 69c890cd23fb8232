"""datamodel-code-generator writes models of openapi.yaml, without a flag for nullable fields. They read what the service sends."""

import pytest
from pydantic import ValidationError

from models import Inbox, Message, Presence

MESSAGE = {
    "id": "0199b1d2-7c1e-7b39-a1f0-3c5d7e9a1b2c",
    "conversation_id": "d73d142b-e255-53a0-a91a-0514e07ecfcf",
    "seq": 1,
    "location_id": "loc1",
    "sender_user_id": "doc123",
    "receiver_contact_id": "pat456",
    "content": "Hello patient!",
    "client_message_id": None,
    "sent_at": "2026-11-22T12:00:00.123456Z",
    "delivered_at": None,
    "read_at": None,
    "is_read": False,
}
NULLABLE = ["client_message_id", "delivered_at", "read_at"]


def test_null_is_read() -> None:
    message = Message.model_validate(MESSAGE)
    assert [getattr(message, name) for name in NULLABLE] == [None, None, None]
    assert message.sender_user_id is not None and message.sender_contact_id is None
    assert Inbox.model_validate({"conversations": [], "next_cursor": None}).next_cursor is None
    presence = {"contact_id": "pat456", "online": True, "last_seen_at": None}
    assert Presence.model_validate(presence).last_seen_at is None


def test_values_are_read() -> None:
    at = "2026-11-22T12:00:01.500000Z"
    message = Message.model_validate(MESSAGE | {"client_message_id": MESSAGE["id"], "delivered_at": at, "read_at": at})
    assert str(message.client_message_id) == MESSAGE["id"]
    assert message.read_at == message.delivered_at and message.read_at.year == 2026


@pytest.mark.parametrize("name", NULLABLE)
def test_nullable_fields_are_required(name: str) -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({field: value for field, value in MESSAGE.items() if field != name})


@pytest.mark.parametrize("name", ["id", "seq", "content", "sent_at", "is_read"])
def test_other_fields_are_not_null(name: str) -> None:
    with pytest.raises(ValidationError):
        Message.model_validate(MESSAGE | {name: None})
