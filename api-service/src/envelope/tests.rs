use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

fn envelope_keys(list: &[(&str, u8)]) -> EnvelopeKeys {
    let entry = |(id, byte): &(&str, u8)| format!("{id}:{}", STANDARD.encode([*byte; KEY_BYTES]));
    let ring = list.iter().map(entry).collect::<Vec<_>>().join(",").parse().unwrap();
    EnvelopeKeys::new(&ring).unwrap()
}

fn location(name: &str) -> LocationId {
    name.parse().unwrap()
}

fn conversation(location: &str, contact: &str) -> Conversation {
    let [user, contact] = ["user:doc123", contact].map(|person| person.parse().unwrap());
    Conversation::new(location.parse().unwrap(), user, contact).unwrap()
}

fn text(content: &str) -> Content {
    Content::trusted(content.to_owned())
}

#[test]
fn data_key_opens_only_for_its_location_and_id() {
    let envelope_keys = envelope_keys(&[("m1", 1)]);
    let wrapped = envelope_keys.generate(&location("loc1")).unwrap();
    assert_eq!((wrapped.wrapped.len(), wrapped.master.as_str()), (KEY_BYTES + OVERHEAD_BYTES, "m1"));
    assert_eq!(envelope_keys.unwrap_key(&wrapped).unwrap().id, wrapped.id);
    // As another service sees it, with an empty cache.
    let other = |list: &[(&str, u8)], key: &WrappedKey| self::envelope_keys(list).unwrap_key(key).map(|key| key.id);
    assert_eq!(other(&[("m2", 2), ("m1", 1)], &wrapped), Ok(wrapped.id));
    assert_eq!(other(&[("m2", 2)], &wrapped), Err(EnvelopeError::UnknownMaster("m1".parse().unwrap())));
    let wrong = Err(EnvelopeError::WrongMaster(wrapped.id, "m1".parse().unwrap()));
    assert_eq!(other(&[("m1", 2)], &wrapped), wrong);
    let elsewhere = WrappedKey { location: location("loc2"), ..wrapped.clone() };
    assert_eq!(other(&[("m1", 1)], &elsewhere), wrong);
    let renamed = WrappedKey { id: Uuid::now_v7(), ..wrapped.clone() };
    assert!(other(&[("m1", 1)], &renamed).is_err());
}

#[test]
fn rewrapped_key_opens_without_old_master() {
    let (before, between) = (envelope_keys(&[("m1", 1)]), envelope_keys(&[("m2", 2), ("m1", 1)]));
    let wrapped = before.generate(&location("loc1")).unwrap();
    let message = conversation("loc1", "contact:pat456");
    let place = MessageAad { id: Uuid::now_v7(), conversation: &message, sender: message.first() };
    let sealed = before.unwrap_key(&wrapped).unwrap().seal(&place, &text("hello")).unwrap();
    let rewrapped = between.rewrap(&wrapped).unwrap();
    assert_eq!((rewrapped.id, rewrapped.master.as_str()), (wrapped.id, "m2"));
    let opened = envelope_keys(&[("m2", 2)]).unwrap_key(&rewrapped).unwrap().open(&place, sealed).unwrap();
    assert_eq!(opened, text("hello"));
}

#[test]
fn new_active_key_replaces_old_one() {
    let (envelope_keys, place) = (envelope_keys(&[("m1", 1)]), location("loc1"));
    assert!(envelope_keys.active_key(&place, 0).is_none());
    for _ in 0..2 {
        let key = envelope_keys.unwrap_key(&envelope_keys.generate(&place).unwrap()).unwrap();
        envelope_keys.set_active_key(&place, key.clone(), 0);
        assert_eq!(envelope_keys.active_key(&place, 0).map(|active| active.id), Some(key.id));
        assert!(Arc::ptr_eq(&envelope_keys.cached(key.id).unwrap(), &key), "unwrapped once");
    }
    assert!(envelope_keys.active_key(&place, 1).is_none(), "another server may lack it");
}

#[test]
fn fingerprint_depends_on_name_and_bytes() {
    let of = |list: &[(&str, u8)]| envelope_keys(list).current_fingerprint().map(str::to_owned);
    let one = of(&[("m1", 1)]).unwrap();
    assert!(one.starts_with("m1:") && one.len() == 3 + 16, "{one}");
    assert_eq!(of(&[("m1", 1), ("m2", 2)]), Ok(one.clone()));
    for other in [("m1", 2), ("m2", 1)] {
        assert_ne!(of(&[other]), Ok(one.clone()));
    }
    let mut all: Vec<_> =
        envelope_keys(&[("m1", 1), ("m2", 2)]).fingerprints().into_iter().map(str::to_owned).collect();
    all.sort_unstable();
    assert_eq!(all, [one, of(&[("m2", 2)]).unwrap()]);
}

#[test]
fn completeness_is_read_from_keys_and_survives_rewrap() {
    let before = envelope_keys(&[("m1", 1)]);
    let open = before.generate(&location("loc1")).unwrap();
    assert_eq!((before.check_complete(&open), before.is_complete()), (Ok(false), false));
    before.mark_complete();
    let marked = before.rewrap(&open).unwrap();
    // As other services see it, which know nothing yet.
    let other = envelope_keys(&[("m2", 2), ("m1", 1)]);
    assert!(other.unwrap_key(&open).is_ok() && !other.is_complete());
    assert_eq!((other.check_complete(&marked), other.is_complete()), (Ok(true), true), "though the key is at hand");
    assert_eq!(other.check_complete(&open), Ok(false));
    assert!(other.is_complete(), "once known, it stays");
    let rewrapped = other.rewrap(&open).unwrap();
    let next = envelope_keys(&[("m2", 2)]);
    assert!(next.unwrap_key(&rewrapped).is_ok() && next.is_complete());
    // And back.
    let back = other.rewrap_incomplete(&rewrapped).unwrap();
    let last = envelope_keys(&[("m2", 2)]);
    assert_eq!((last.check_complete(&back), last.is_complete()), (Ok(false), false));
    // No location's name can imitate the marker.
    let place = key_aad(open.id, &location("loc1"), true);
    assert!(
        "loc1 and all is sealed".parse::<LocationId>().is_err() && place != key_aad(open.id, &location("loc1"), false)
    );
}

#[test]
fn keys_without_current_open_but_do_not_seal() {
    let wrapped = envelope_keys(&[("m1", 1)]).generate(&location("loc1")).unwrap();
    let ring = format!("-,m1:{}", STANDARD.encode([1; KEY_BYTES])).parse().unwrap();
    let envelope_keys = EnvelopeKeys::new(&ring).unwrap();
    assert_eq!(envelope_keys.current(), None);
    assert_eq!(envelope_keys.generate(&location("loc1")), Err(EnvelopeError::NothingSeals));
    assert!(envelope_keys.unwrap_key(&wrapped).is_ok());
}

#[test]
fn sealed_text_opens_only_for_its_message() {
    let envelope_keys = envelope_keys(&[("m1", 1)]);
    let key = envelope_keys.unwrap_key(&envelope_keys.generate(&location("loc1")).unwrap()).unwrap();
    let second_key = envelope_keys.unwrap_key(&envelope_keys.generate(&location("loc1")).unwrap()).unwrap();
    let (here, there, abroad) = (
        conversation("loc1", "contact:pat456"),
        conversation("loc1", "contact:pat457"),
        conversation("loc2", "contact:pat456"),
    );
    let place = MessageAad { id: Uuid::from_u128(7), conversation: &here, sender: here.first() };
    let sealed = key.seal(&place, &text("hello")).unwrap();
    assert_eq!(key.open(&place, sealed.clone()), Ok(text("hello")));
    for other in [
        MessageAad { id: Uuid::from_u128(8), ..place },
        MessageAad { conversation: &there, ..place },
        MessageAad { conversation: &abroad, ..place },
        MessageAad { sender: here.second(), ..place },
    ] {
        assert_eq!(key.open(&other, sealed.clone()), Err(SealError::AuthenticationFailed), "{other:?}");
    }
    assert_eq!(second_key.open(&place, sealed), Err(SealError::AuthenticationFailed));
}

#[test]
fn keys_are_hidden_in_debug() {
    let envelope_keys = envelope_keys(&[("m1", 120)]);
    assert_eq!(format!("{envelope_keys:?}"), r#"EnvelopeKeys { current: Some(KeyId("m1")), .. }"#);
}

proptest! {
    #[test]
    fn sealed_content_round_trips(content in "\\PC{1,200}") {
        let envelope_keys = envelope_keys(&[("m1", 1)]);
        let key = envelope_keys.unwrap_key(&envelope_keys.generate(&location("loc1")).unwrap()).unwrap();
        let conversation = conversation("loc1", "contact:pat456");
        let place = MessageAad { id: Uuid::now_v7(), conversation: &conversation, sender: conversation.second() };
        let sealed = key.seal(&place, &text(&content)).unwrap();
        prop_assert!(content.len() < 4 || !sealed.windows(content.len()).any(|window| window == content.as_bytes()));
        prop_assert_eq!(key.open(&place, sealed), Ok(text(&content)));
    }

    #[test]
    fn unwrap_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let envelope_keys = envelope_keys(&[("m1", 1)]);
        let key = WrappedKey { id: Uuid::from_u128(1), location: location("loc1"), master: "m1".parse().unwrap(), wrapped: bytes };
        prop_assert!(envelope_keys.unwrap_key(&key).is_err());
    }
}
