//! Every record comes back as it was; what we did not write is an error, never a panic.

use std::fmt::Debug;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::super::*;
use super::*;
use crate::words::*;

fn comes_back<R: Record + PartialEq + Debug>(record: &R) -> Result<(), TestCaseError> {
    let value = encode(record);
    prop_assert_eq!(value[0], VERSION);
    prop_assert_eq!(&decode::<R>(&value).unwrap(), record);
    prop_assert_eq!(&decode_slot::<R>(&encode_slot(record)).unwrap(), record);
    let mut longer = value.clone();
    longer.push(0);
    prop_assert!(decode::<R>(&longer).is_err(), "an octet too many");
    prop_assert!(decode::<R>(&value[..value.len() - 1]).is_err(), "an octet too few");
    let mut newer = value;
    newer[0] = VERSION + 1;
    prop_assert!(decode::<R>(&newer).is_err(), "an unknown version");
    Ok(())
}

fn uids() -> impl Strategy<Value = Uid> {
    (1..=u32::MAX).prop_map(|uid| Uid::new(uid).unwrap())
}

fn flags() -> impl Strategy<Value = Flags> {
    (0u8..32, vec("[$a-zA-Z][a-zA-Z0-9_]{0,20}", 0..4)).prop_map(|(system, keywords)| {
        let mut flags = Flags::of_system(SystemFlags(system));
        keywords.iter().for_each(|keyword| flags.insert(keyword));
        flags
    })
}

fn links() -> impl Strategy<Value = Link> {
    let digests = any::<([u8; 16], [u8; 32])>();
    let answers = any::<(bool, bool, bool)>();
    let altered = option::of(".{0,40}");
    (option::of(uids()), any::<(u64, i64)>(), digests, flags(), answers, altered).prop_map(
        |(target_uid, (size, instant), (header, sha256), flags, answers, altered)| Link {
            target_uid,
            origin: match (answers.0, answers.1) {
                (false, _) => Origin::Copied,
                (true, false) => Origin::Adopted,
                (true, true) => Origin::Twin,
            },
            size,
            instant: InternalDate(instant),
            header: HeaderDigest(header),
            sha256: Sha256(sha256),
            flags,
            unsure: None,
            proof: match (answers.0, answers.2) {
                (false, _) => Proof::Listed,
                (true, false) => Proof::ReadBack,
                (true, true) => Proof::Verified,
            },
            suspect: answers.2,
            altered,
        },
    )
}

fn known() -> impl Strategy<Value = Known> {
    let refused =
        (any::<(bool, u32, i64)>(), ".{0,80}").prop_map(|((by_target, tries, last_try), text)| {
            Known::Refused { by_target, text, tries, last_try }
        });
    let unsure = (links(), flags())
        .prop_map(|(link, flags)| Known::Linked(Link { unsure: Some(Box::new(flags)), ..link }));
    prop_oneof![3 => links().prop_map(Known::Linked), 1 => unsure, 1 => refused]
}

fn intended() -> impl Strategy<Value = Intended> {
    (uids(), links()).prop_map(|(source_uid, link)| Intended {
        source_uid,
        size: link.size,
        instant: link.instant,
        header: link.header,
        sha256: link.sha256,
        flags: link.flags,
        suspect: link.suspect,
    })
}

fn intents() -> impl Strategy<Value = Intent> {
    let numbers = any::<(u64, u32, u32, u32, u32, i64, bool)>();
    (numbers, vec(intended(), 0..5)).prop_map(
        |((id, folder, source, target, target_uid_next, written_at, repeated), messages)| Intent {
            id: IntentId(id),
            folder: FolderId(folder),
            source_uid_validity: UidValidity(source),
            target_uid_validity: UidValidity(target),
            target_uid_next,
            written_at,
            repeated,
            messages,
        },
    )
}

fn seen() -> impl Strategy<Value = Seen> {
    any::<(u32, u32, u32, u64)>().prop_map(|(validity, uid_next, messages, modseq)| Seen {
        uid_validity: UidValidity(validity),
        uid_next,
        messages,
        highest_modseq: ModSeq(modseq),
    })
}

fn folders() -> impl Strategy<Value = FolderRecord> {
    let names = any::<(Vec<u8>, Vec<u8>, String, String, bool)>();
    (any::<(u32, u32, i64, bool)>(), names, option::of(seen()), option::of(seen())).prop_map(
        |((id, account, compared_at, first_copy_completed), names, source_seen, target_seen)| {
            FolderRecord {
                id: FolderId(id),
                account: AccountId(account),
                source_name: names.0.into(),
                target_name: names.1.into(),
                source_shown: names.2,
                target_shown: names.3,
                exempt: names.4,
                source_seen,
                target_seen,
                first_copy_completed,
                compared_at,
            }
        },
    )
}

fn accounts() -> impl Strategy<Value = AccountRecord> {
    let texts = proptest::array::uniform8(".{0,30}");
    let times = any::<[Option<i64>; 3]>();
    let refused = any::<Option<([u8; 16], bool, i64)>>();
    let worked = any::<Option<[u8; 16]>>();
    (any::<(u32, bool, bool)>(), texts, 0usize..7, times, refused, worked).prop_map(
        |((id, first_copy_completed, removals_suspended), texts, phase, times, refused, worked)| {
            let [address, migration, enrolled_by, host, user, target_host, target_user, text] =
                texts;
            AccountRecord {
                id: AccountId(id),
                address,
                migration,
                enrolled_by,
                source: Place { host, user },
                target: Place { host: target_host, user: target_user },
                phase: accounts::PHASES[phase],
                sealed_at: times[0],
                completed_at: times[1],
                source_seen_until: times[2],
                first_copy_completed,
                removals_suspended,
                refused_credentials: refused.map(|(digest, at_target, since)| Refused {
                    digest,
                    at_target,
                    since,
                    text,
                }),
                worked_credentials: worked,
            }
        },
    )
}

proptest! {
    #[test]
    fn a_link_or_a_refusal_comes_back(record in known()) {
        comes_back(&record)?;
    }

    #[test]
    fn an_intent_comes_back(record in intents()) {
        comes_back(&record)?;
    }

    #[test]
    fn a_folder_comes_back(record in folders()) {
        comes_back(&record)?;
    }

    #[test]
    fn an_account_comes_back(record in accounts()) {
        comes_back(&record)?;
    }

    #[test]
    fn arbitrary_octets_never_panic(octets: Vec<u8>) {
        fuzzing::records(&octets);
        let mut ours = vec![VERSION];
        ours.extend(octets);
        fuzzing::records(&ours);
    }
}

#[test]
fn an_ordinary_link_takes_no_more_than_64_octets() {
    let link = Link {
        target_uid: Uid::new(123_456),
        origin: Origin::Copied,
        size: 250_000,
        instant: InternalDate(1_760_000_000),
        header: HeaderDigest([1; 16]),
        sha256: Sha256([2; 32]),
        flags: Flags::of_names(["\\Seen"]),
        unsure: None,
        proof: Proof::Listed,
        suspect: false,
        altered: None,
    };
    let octets = encode_slot(&Known::Linked(link)).len();
    assert!(octets <= 64, "{octets}");
}

/// What stands in stores of the field: if this fails, the version has to change.
#[test]
fn the_octets_of_version_1_stay() {
    let refused = Known::Refused { by_target: true, text: "no".into(), tries: 300, last_try: -1 };
    assert_eq!(encode(&refused), [1, 1, 1, 2, b'n', b'o', 0xac, 0x02, 1]);
    let seen =
        Seen { uid_validity: UidValidity(1), uid_next: 2, messages: 3, highest_modseq: ModSeq(4) };
    let folder = FolderRecord {
        id: FolderId(5),
        account: AccountId(6),
        source_name: b"a"[..].into(),
        target_name: b"b"[..].into(),
        source_shown: "A".to_owned(),
        target_shown: "B".to_owned(),
        exempt: false,
        source_seen: Some(seen),
        target_seen: None,
        first_copy_completed: true,
        compared_at: 7,
    };
    assert_eq!(
        encode(&folder),
        [1, 5, 6, 1, b'a', 1, b'b', 1, b'A', 1, b'B', 1, 1, 2, 3, 4, 0, 1, 14]
    );
}
