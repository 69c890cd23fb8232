use super::set::REMOVAL_BATCH;
use super::*;
use crate::contract::token::Actor;
use crate::contract::token::Principal;

/// Later than any test runs.
const LATE: i64 = 4_000_000_000;

fn principal(jti: Option<&str>, sub: &str, issued_at: Option<i64>) -> Principal {
    Principal {
        actor: Actor::Participant(crate::contract::participant::Participant::user(sub.parse().unwrap())),
        subject: sub.parse().unwrap(),
        locations: vec![],
        expires_at: OffsetDateTime::UNIX_EPOCH,
        issued_at,
        jti: jti.map(str::to_owned),
        key: crate::contract::token::VerificationKeyId::SECRET,
    }
}

fn token(jti: &str) -> RevocationEntry {
    Revocation::Token { jti: jti.into(), expires_at: None }.entry(LATE)
}

fn subject(sub: &str, issued_before: i64) -> RevocationEntry {
    Revocation::Subject { sub: sub.parse().unwrap(), issued_before }.entry(LATE)
}

#[test]
fn jti_revokes_only_its_token() {
    let revocations = RevocationSet::default();
    assert!(revocations.add([token("t1")]));
    assert!(!revocations.add([token("t1")]), "no news");
    assert!(revocations.is_revoked(principal(Some("t1"), "a", None).identity()));
    assert!(!revocations.is_revoked(principal(Some("t2"), "a", None).identity()));
    assert!(!revocations.is_revoked(principal(None, "t1", None).identity()));
}

#[test]
fn subject_bound_never_moves_back() {
    let revocations = RevocationSet::default();
    assert!(revocations.add([subject("a", 100)]));
    assert!(!revocations.add([subject("a", 50)]));
    assert!(revocations.is_revoked(principal(None, "a", Some(99)).identity()));
    assert!(revocations.is_revoked(principal(None, "a", None).identity()));
    assert!(!revocations.is_revoked(principal(None, "a", Some(100)).identity()));
    assert!(!revocations.is_revoked(principal(None, "b", Some(1)).identity()));
}

#[test]
fn global_bound_revokes_earlier_tokens() {
    let revocations = RevocationSet::default();
    let everyone = |issued_before| [Revocation::Everyone { issued_before }.entry(LATE)];
    assert!(revocations.add(everyone(100)));
    assert!(!revocations.add(everyone(50)), "no news");
    for sub in ["a", "b"] {
        assert!(revocations.is_revoked(principal(None, sub, Some(99)).identity()));
        assert!(revocations.is_revoked(principal(Some("t1"), sub, None).identity()));
        assert!(!revocations.is_revoked(principal(Some("t1"), sub, Some(100)).identity()));
    }
}

#[test]
fn subject_or_fhir_user_revokes_token() {
    for name in ["account-7", "doc7"] {
        let revocations = RevocationSet::default();
        let mut principal = principal(None, "account-7", Some(99));
        principal.actor = Actor::Participant(crate::contract::participant::Participant::user("doc7".parse().unwrap()));
        assert!(!revocations.is_revoked(principal.identity()));
        revocations.add([subject(name, 100)]);
        assert!(revocations.is_revoked(principal.identity()), "{name}");
        principal.issued_at = Some(100);
        assert!(!revocations.is_revoked(principal.identity()), "{name}");
    }
}

#[test]
fn known_revocations_cause_no_change() {
    let revocations = RevocationSet::default();
    let mut changes = revocations.changes();
    revocations.add([]);
    assert!(!changes.has_changed().unwrap());
    revocations.add([token("t1")]);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    revocations.add([token("t1")]);
    assert!(!changes.has_changed().unwrap());
}

#[test]
fn revocation_is_removed_when_its_last_token_expired() {
    let revocations = RevocationSet::default();
    let by_jti = |ends_at| Revocation::Token { jti: "t1".into(), expires_at: None }.entry(ends_at);
    let of_a = |ends_at| Revocation::Subject { sub: "a".parse().unwrap(), issued_before: 100 }.entry(ends_at);
    let of_all = |ends_at| Revocation::Everyone { issued_before: 50 }.entry(ends_at);
    // The later end counts, in any order.
    revocations.add([by_jti(1_000), by_jti(900), of_a(900), of_a(1_000), of_all(900), of_all(1_000)]);
    assert!(revocations.remove_expired(999).is_empty());
    assert_eq!(revocations.len(), 3);
    assert!(revocations.is_revoked(principal(Some("t1"), "b", Some(200)).identity()));
    let ended = revocations.remove_expired(1_000);
    assert_eq!(ended, [by_jti(1_000), of_a(1_000), of_all(1_000)]);
    assert!(revocations.is_empty());
    assert!(!revocations.is_revoked(principal(Some("t1"), "a", None).identity()));
}

#[test]
fn removal_continues_beyond_one_batch() {
    let revocations = RevocationSet::default();
    let many = 3 * REMOVAL_BATCH + 1;
    let entry = |n: usize, ends_at| Revocation::Token { jti: n.to_string(), expires_at: None }.entry(ends_at);
    revocations.add((0..many).map(|n| entry(n, 10)).chain([entry(many, 20)]));
    assert_eq!(revocations.remove_expired(10).len(), many);
    assert_eq!(revocations.len(), 1);
}

#[test]
fn revocation_ends_with_its_last_token() {
    let (now, life) = (1_000, 500);
    let token = |expires_at| Revocation::Token { jti: "t1".into(), expires_at };
    let subject = |issued_before| Revocation::Subject { sub: "a".parse().unwrap(), issued_before };
    for (revocation, last) in [
        (token(Some(1_200)), 1_200),
        (token(None), 1_500),
        (subject(900), 1_500),
        (subject(2_000), 2_500),
        (Revocation::Everyone { issued_before: 2_000 }, 2_500),
    ] {
        assert_eq!(revocation.ends_at(now, life), last + EXPIRY_GRACE_SECONDS, "{revocation:?}");
    }
    assert_eq!(subject(i64::MAX).ends_at(now, life), i64::MAX);
}

#[test]
fn entries_survive_a_round_trip() {
    for entry in [token("t1"), subject("doc.1~2-3_4", -5), Revocation::Everyone { issued_before: 7 }.entry(i64::MAX)] {
        assert_eq!(entry.to_string().parse(), Ok(entry));
    }
    assert_eq!(token("t1").to_string(), "t 628b49d96dcde97a430dd4f597705899 4000000000");
    let of_a_multibyte = "t aééaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 5";
    for text in ["", "t", "t 12 5", "s a 5", "s a b c 5 6", "e 5", "e 5 6 7", "m 1 2", "{}", of_a_multibyte] {
        assert_eq!(text.parse::<RevocationEntry>(), Err(InvalidRevocation), "{text}");
    }
}

#[test]
fn fractions_of_seconds_round_up() {
    let at = OffsetDateTime::from_unix_timestamp_nanos(5_000_000_001).unwrap();
    assert_eq!((whole_seconds(at), whole_seconds(OffsetDateTime::UNIX_EPOCH)), (6, 0));
}
