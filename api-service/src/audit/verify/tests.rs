use super::*;
use crate::audit::anchors::format_line;
use proptest::prelude::*;
use uuid::Uuid;

/// A stored row with its position.
type Kept = (i64, i64, Row, Vec<u8>);

fn key(letter: &str) -> AuditKey {
    AuditKey::new(&letter.repeat(32).parse().unwrap())
}

/// Rows of any shape.
fn row() -> impl Strategy<Value = Row> {
    let text = || "[a-z:.0-9]{0,12}";
    let maybe = || prop::option::of("[a-z:.0-9]{0,12}");
    let numbers = (0..4_000_000_000_000_000_i64, 1..9_i32, 100..4_500_i16);
    let ids = (
        prop::option::of(any::<u128>()),
        prop::option::of(any::<u128>()),
        prop::option::of(prop::collection::vec(any::<u128>(), 1..4)),
        prop::option::of(prop::collection::vec(any::<u8>(), 16)),
    );
    let texts = (text(), text(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe());
    (numbers, ids, texts).prop_map(|((at, times, outcome), (conversation, event, ids, text_mac), texts)| Row {
        at,
        times,
        outcome,
        conversation_id: conversation.map(Uuid::from_u128),
        event_id: event.map(Uuid::from_u128),
        actor: texts.0,
        action: texts.1,
        acts_for: texts.2,
        counterpart: texts.3,
        location_id: texts.4,
        message_ids: ids.map(|ids| ids.into_iter().map(Uuid::from_u128).collect()),
        detail: texts.5,
        request_id: texts.6,
        source: texts.7,
        text_mac,
    })
}

/// Chains 1, 2, 3 … of these rows, as the service writes them.
fn written(chains: &[Vec<Row>]) -> (Vec<Kept>, Vec<StoredHead>) {
    let (key, mut rows, mut heads, mut buffer) = (key("x"), Vec::new(), Vec::new(), Vec::new());
    for (chain, of_chain) in (1..).zip(chains) {
        let mut head = Head::new(chain, 1_000 + chain);
        for row in of_chain {
            head.advance(&key, row, &mut buffer);
            rows.push((chain, head.n, row.clone(), head.mac.to_vec()));
        }
        let seal = head.seal(&key).to_vec();
        heads.push(StoredHead { chain, key_id: key.id().to_owned(), opened_at: head.opened_at, n: head.n, seal });
    }
    (rows, heads)
}

fn walk(rows: &[Kept], heads: &[StoredHead], anchors: Anchors) -> Report {
    let (keys, mut buffer) = ([key("y"), key("x")], Vec::new());
    let mut walk = ChainVerifier::new(&keys, heads.to_vec(), 1, anchors);
    let mut rows: Vec<_> = rows.iter().collect();
    rows.sort_by_key(|(chain, n, ..)| (*chain, *n));
    for (chain, n, row, mac) in rows {
        walk.verify_row(*chain, *n, Some(row), mac, &mut buffer);
    }
    walk.finish()
}

fn findings(rows: &[Kept], heads: &[StoredHead]) -> Vec<(i64, i64, Defect)> {
    let report = walk(rows, heads, Anchors::new());
    report.findings.iter().map(|finding| (finding.chain, finding.n, finding.defect)).collect()
}

/// One to three chains of one to six rows.
fn chains() -> impl Strategy<Value = Vec<Vec<Row>>> {
    prop::collection::vec(prop::collection::vec(row(), 1..6), 1..4)
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Flips one bit of a text, never the highest, so that ASCII stays ASCII.
fn flip_text(text: &mut String, bit: usize) {
    let mut bytes = std::mem::take(text).into_bytes();
    if bytes.is_empty() {
        bytes.push(b'\0');
    } else {
        let bit = bit % (bytes.len() * 7);
        bytes[bit / 7] ^= 1 << (bit % 7);
    }
    *text = String::from_utf8(bytes).unwrap();
}

fn flip_optional(text: &mut Option<String>, bit: usize) {
    match text {
        Some(text) if !bit.is_multiple_of(5) => flip_text(text, bit),
        Some(_) => *text = None,
        None => *text = Some(String::new()),
    }
}

fn flip_id(id: &mut Option<Uuid>, bit: usize) {
    *id = match id {
        Some(id) if !bit.is_multiple_of(5) => Some(Uuid::from_u128(id.as_u128() ^ (1 << (bit % 128)))),
        Some(_) => None,
        None => Some(Uuid::nil()),
    };
}

/// Flips one bit of one column.
fn change((_, _, row, mac): &mut Kept, column: usize, bit: usize) {
    match column % 16 {
        0 => row.at ^= 1 << (bit % 63),
        1 => row.times ^= 1 << (bit % 31),
        2 => row.outcome ^= 1 << (bit % 15),
        3 => flip_id(&mut row.conversation_id, bit),
        4 => flip_id(&mut row.event_id, bit),
        5 => flip_text(&mut row.actor, bit),
        6 => flip_text(&mut row.action, bit),
        7 => flip_optional(&mut row.acts_for, bit),
        8 => flip_optional(&mut row.counterpart, bit),
        9 => flip_optional(&mut row.location_id, bit),
        10 => flip_optional(&mut row.detail, bit),
        11 => flip_optional(&mut row.request_id, bit),
        12 => flip_optional(&mut row.source, bit),
        13 => match &mut row.message_ids {
            Some(ids) if !bit.is_multiple_of(5) => ids[0] = Uuid::from_u128(ids[0].as_u128() ^ (1 << (bit % 128))),
            Some(_) => row.message_ids = None,
            None => row.message_ids = Some(vec![Uuid::nil()]),
        },
        14 => match &mut row.text_mac {
            Some(mac) if !bit.is_multiple_of(5) => flip(mac, bit),
            Some(_) => row.text_mac = None,
            None => row.text_mac = Some(Vec::new()),
        },
        _ => flip(mac, bit),
    }
}

proptest! {
    #[test]
    fn written_chains_verify(chains in chains()) {
        let (rows, heads) = written(&chains);
        let report = walk(&rows, &heads, Anchors::new());
        prop_assert_eq!((report.defects, report.rows, report.chains), (0, rows.len() as u64, heads.len() as u64));
        prop_assert_eq!(report.heads.len(), heads.len());
        // Its own heads are valid anchors.
        let anchors: String = report.heads.iter().map(|head| format_line(head) + "\n").collect();
        let anchors = crate::audit::anchors::parse(anchors.as_bytes()).unwrap();
        prop_assert_eq!(walk(&rows, &heads, anchors).defects, 0);
    }

    #[test]
    fn flipped_bit_is_found_at_its_row(chains in chains(), position: prop::sample::Index, column: usize, bit: usize) {
        let (mut rows, heads) = written(&chains);
        let position = position.index(rows.len());
        change(&mut rows[position], column, bit);
        let found = findings(&rows, &heads);
        prop_assert!(found.contains(&(rows[position].0, rows[position].1, Defect::Modified)), "{:?}", found);
        // The following row is intact. (A head seals the hash of the last row.)
        prop_assert!(found.iter().all(|(_, _, defect)| matches!(defect, Defect::Modified | Defect::Head)), "{:?}", found);
        prop_assert!(found.iter().filter(|(_, _, defect)| *defect == Defect::Modified).count() == 1, "{:?}", found);
    }

    #[test]
    fn removed_row_is_found(chains in chains(), position: prop::sample::Index) {
        let (mut rows, heads) = written(&chains);
        let (chain, n, ..) = rows.remove(position.index(rows.len()));
        let was_last = heads[chain as usize - 1].n == n;
        let defect = if was_last { Defect::Truncated } else { Defect::Missing };
        prop_assert_eq!(findings(&rows, &heads), [(chain, n, defect)]);
    }

    #[test]
    fn removed_row_is_found_after_renumbering(chains in chains(), position: prop::sample::Index) {
        let (mut rows, mut heads) = written(&chains);
        let (chain, n, ..) = rows.remove(position.index(rows.len()));
        for row in rows.iter_mut().filter(|row| row.0 == chain && row.1 > n) {
            row.1 -= 1;
        }
        heads[chain as usize - 1].n -= 1;
        prop_assert!(!findings(&rows, &heads).is_empty());
    }

    #[test]
    fn swapped_rows_are_found(chains in chains(), one: prop::sample::Index, other: prop::sample::Index) {
        let (mut rows, heads) = written(&chains);
        let (one, other) = (one.index(rows.len()), other.index(rows.len()));
        prop_assume!(one != other);
        let places = [one, other].map(|position| (rows[position].0, rows[position].1));
        ((rows[one].0, rows[one].1), (rows[other].0, rows[other].1)) = (places[1], places[0]);
        let found = findings(&rows, &heads);
        for (chain, n) in places {
            prop_assert!(found.contains(&(chain, n, Defect::Modified)), "{:?}", found);
        }
    }

    #[test]
    fn truncated_end_is_found(chains in chains(), left: prop::sample::Index) {
        let (mut rows, mut heads) = written(&chains);
        let left = left.index(heads[0].n as usize) as i64;
        rows.retain(|(chain, n, ..)| *chain != 1 || *n <= left);
        prop_assert_eq!(findings(&rows, &heads)[0], (1, left + 1, Defect::Truncated));
        heads[0].n = left;
        prop_assert_eq!(findings(&rows, &heads), [(1, left, Defect::Head)]);
    }

    #[test]
    fn added_row_is_found(chains in chains(), new in row(), mac: [u8; 32]) {
        let (mut rows, heads) = written(&chains);
        let n = heads[0].n + 1;
        rows.push((1, n, new.clone(), mac.to_vec()));
        prop_assert!(findings(&rows, &heads).contains(&(1, n, Defect::Added)));
        rows.pop();
        rows.push((9, 1, new, mac.to_vec()));
        prop_assert_eq!(findings(&rows, &heads), [(9, 1, Defect::MissingChain)]);
    }

    #[test]
    fn flipped_bit_of_head_is_found(chains in chains(), field in 0..4_usize, bit in 0..31_usize) {
        let (rows, mut heads) = written(&chains);
        match field {
            0 => flip_text(&mut heads[0].key_id, bit),
            1 => heads[0].opened_at ^= 1 << bit,
            2 => heads[0].n ^= 1 << bit,
            _ => flip(&mut heads[0].seal, bit),
        }
        prop_assert!(findings(&rows, &heads).iter().any(|(chain, ..)| *chain == 1));
    }
}

fn three() -> (Vec<Kept>, Vec<StoredHead>) {
    let row = Row::from(&shared::contract::audit::AuditEntry::new(
        shared::contract::audit::AuditActor::Anonymous,
        shared::contract::audit::Action::Send,
        401,
    ));
    written(&[vec![row.clone(), row.clone()], vec![row.clone(); 3], vec![row]])
}

#[test]
fn missing_chain_is_found() {
    let (mut rows, mut heads) = three();
    rows.retain(|row| row.0 != 2);
    heads.retain(|head| head.chain != 2);
    assert_eq!(findings(&rows, &heads), [(2, 0, Defect::MissingChain)]);
}

/// Findings in three good chains plus these rows and heads.
fn with_more(from_chain: i64, more: &[Kept], more_heads: &[StoredHead]) -> Vec<(i64, i64, Defect)> {
    let (mut rows, mut heads) = three();
    rows.extend_from_slice(more);
    heads.extend_from_slice(more_heads);
    rows.sort_by_key(|(chain, n, ..)| (*chain, *n));
    let (keys, mut buffer) = ([key("x")], Vec::new());
    let mut walk = ChainVerifier::new(&keys, heads, from_chain, Anchors::new());
    for (chain, n, row, mac) in &rows {
        walk.verify_row(*chain, *n, Some(row), mac, &mut buffer);
    }
    walk.finish().findings.iter().map(|finding| (finding.chain, finding.n, finding.defect)).collect()
}

#[test]
fn rows_and_heads_outside_chains_are_found() {
    let (rows, heads) = three();
    let (good, head) = (rows[0].clone(), heads[0].clone());
    let row = |chain: i64, n: i64| (chain, n, good.2.clone(), good.3.clone());
    let at = |chain: i64, n: i64| StoredHead { chain, n, ..head.clone() };
    for chain in [0, -1, -7, i64::MIN] {
        assert_eq!(with_more(1, &[row(chain, 1)], &[]), [(chain, 1, Defect::InvalidNumber)]);
        assert_eq!(with_more(1, &[], &[at(chain, 2)]), [(chain, 2, Defect::InvalidNumber)]);
        let both = [(chain, 2, Defect::InvalidNumber), (chain, 1, Defect::InvalidNumber)];
        assert_eq!(with_more(1, &[row(chain, 1)], &[at(chain, 2)]), both);
    }
    for chain in [4, 5, 1_000_000, i64::MAX] {
        assert_eq!(with_more(1, &[row(chain, 1)], &[]), [(chain, 1, Defect::MissingChain)]);
        let found = with_more(1, &[], &[at(chain, 0)]);
        assert!(found.contains(&(chain, 0, Defect::Head)), "{found:?}");
        let found = with_more(1, &[row(chain, 1)], &[at(chain, 1)]);
        assert!(found.iter().any(|(of, _, defect)| (*of, *defect) == (chain, Defect::Modified)), "{found:?}");
    }
    // Positions that no chain has, and one that exists twice.
    for n in [0, -1, i64::MIN, 1, 2] {
        let found = with_more(1, &[row(2, n)], &[]);
        assert_eq!(found, [(2, n, Defect::Added)]);
    }
    assert!(with_more(1, &[row(2, i64::MAX)], &[]).contains(&(2, i64::MAX, Defect::Added)));
    assert_eq!(with_more(1, &[], &[at(2, 3)]), [(2, 3, Defect::Head)], "two heads of one chain");
}

#[test]
fn archived_chains_are_found_while_present() {
    let found = with_more(3, &[], &[]);
    let not_verified: Vec<_> = found.iter().filter(|(.., defect)| *defect == Defect::NotVerified).collect();
    assert_eq!((found.len(), not_verified.len()), (7, 7), "two heads and five rows: {found:?}");
    // Starting after the last chain verifies nothing, and reports that.
    assert_eq!(with_more(9, &[], &[]).len(), 9);
    assert_eq!(with_more(-5, &[], &[]), [], "there is nothing before the first");
}

#[test]
fn verify_row_returns_key_only_for_valid_rows() {
    let (mut rows, mut heads) = three();
    heads[1].key_id = key("y").id().to_owned();
    rows[0].2.outcome += 1;
    let (keys, mut buffer) = ([key("x"), key("y")], Vec::new());
    let mut walk = ChainVerifier::new(&keys, heads, 1, Anchors::new());
    let of: Vec<_> = rows
        .iter()
        .map(|(chain, n, row, mac)| {
            walk.verify_row(*chain, *n, Some(row), mac, &mut buffer).map(|key| key.id().to_owned())
        })
        .collect();
    let x = Some(key("x").id().to_owned());
    assert_eq!(of, [None, x.clone(), None, None, None, x], "rows of one key do not pass under another's head");
    let found: Vec<_> = walk.take_findings().iter().map(|finding| (finding.chain, finding.n, finding.defect)).collect();
    let altered = [(1, 1), (2, 1), (2, 2), (2, 3)].map(|(chain, n)| (chain, n, Defect::Modified));
    assert_eq!(found, [&altered[..], &[(2, 3, Defect::Head)]].concat());
    assert_eq!(walk.finish().defects, 5, "what was taken counts");
}

#[test]
fn verification_may_start_at_later_chain() {
    let (mut rows, mut heads) = three();
    rows.retain(|row| row.0 > 1);
    heads.retain(|head| head.chain > 1);
    let (keys, mut buffer) = ([key("x")], Vec::new());
    let anchors = Anchors::from([((1, 2), "00".repeat(32))]);
    let mut walk = ChainVerifier::new(&keys, heads, 2, anchors);
    for (chain, n, row, mac) in &rows {
        walk.verify_row(*chain, *n, Some(row), mac, &mut buffer);
    }
    assert_eq!(walk.finish().defects, 0);
}

#[test]
fn restored_trail_is_found_by_anchor() {
    let (rows, heads) = three();
    let remembered = Anchors::from([((2, 3), hex(&rows[4].3)), ((2, 2), hex(&rows[3].3))]);
    assert_eq!(walk(&rows, &heads, remembered.clone()).defects, 0);
    // The state when chain 2 had two rows and chain 3 none.
    let (earlier, earlier_heads) = written(&[
        rows[..2].iter().map(|row| row.2.clone()).collect(),
        rows[2..4].iter().map(|row| row.2.clone()).collect(),
    ]);
    assert_eq!(findings(&earlier, &earlier_heads), []);
    let report = walk(&earlier, &earlier_heads, remembered);
    assert_eq!(report.findings, [Finding { chain: 2, n: 3, defect: Defect::Anchor }]);
}

#[test]
fn chain_without_known_key_is_unverified() {
    let (rows, mut heads) = three();
    heads[1].key_id = key("z").id().to_owned();
    assert_eq!(findings(&rows, &heads), [(2, 0, Defect::UnknownKey)]);
}

#[test]
fn undecodable_row_is_modified() {
    let (rows, heads) = three();
    let (keys, mut buffer) = ([key("x")], Vec::new());
    let mut walk = ChainVerifier::new(&keys, heads, 1, Anchors::new());
    for (chain, n, row, mac) in &rows {
        walk.verify_row(*chain, *n, Some(row).filter(|_| (*chain, *n) != (2, 2)), mac, &mut buffer);
    }
    let report = walk.finish();
    assert_eq!(report.findings, [Finding { chain: 2, n: 2, defect: Defect::Modified }]);
}
