//! What must hold whatever a server sends.

use super::decode::{self, Attributes, Condition, Data, Response, StatusData, TEXT_MAX};
use super::name::WireName;
use super::scan;
use super::wire::{Frame, Framer, RESPONSE_MAX};

/// However the octets are cut, the same frames are found in them. The first octet says whether
/// bodies are streamed, the second one how to cut.
pub fn wire(input: &[u8]) {
    let [choice, seed, octets @ ..] = input else { return };
    let streams = choice & 1 == 1;
    let whole = framed(octets, streams, || usize::MAX);
    assert_eq!(framed(octets, streams, || 1), whole, "cut into single octets");
    let mut state = u32::from(*seed) + 1;
    let uneven = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % 48
    };
    assert_eq!(framed(octets, streams, uneven), whole, "cut unevenly by {seed}");
}

/// The decoders read what the framer found without panicking, keep within their bounds, and do
/// not contradict each other. The first octet says whether bodies are streamed.
pub fn responses(input: &[u8]) {
    let [choice, octets @ ..] = input else { return };
    for found in framed(octets, choice & 1 == 1, || usize::MAX) {
        match found {
            Found::Response(held) => check_response(&held),
            Found::Body { held, .. } => check_response(&[&held, &b")\r\n"[..]].concat()),
            Found::Rest { .. } | Found::Refused(_) => {}
        }
    }
}

/// A name goes to the wire and back unchanged, and what came from the wire is shown as itself or
/// goes back to the very same octets.
pub fn folder_names(octets: &[u8]) {
    let wire = WireName::of_wire(octets);
    let shown = wire.decode();
    let as_it_stands = shown == String::from_utf8_lossy(octets);
    assert!(as_it_stands || WireName::encode(&shown) == wire, "{wire:?} shown as {shown:?}");
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let encoded = WireName::encode(text);
    assert_eq!(encoded.decode(), text);
    assert!(encoded.as_octets().iter().all(|octet| (b' '..=b'~').contains(octet)), "{encoded:?}");
    assert!(encoded.as_octets().len() <= 5 * octets.len(), "{encoded:?}");
}

#[derive(PartialEq, Debug)]
enum Found {
    Response(Vec<u8>),
    Body {
        held: Vec<u8>,
        size: u64,
        octets: Vec<u8>,
    },
    /// What the octets end in, short of a whole response.
    Rest {
        held: Vec<u8>,
        body_left: u64,
        between: bool,
    },
    Refused(String),
}

/// Feeds the octets in slices as long as `cut` says, as a connection does.
fn framed(octets: &[u8], streams: bool, mut cut: impl FnMut() -> usize) -> Vec<Found> {
    let mut framer = Framer::new();
    framer.stream_bodies(streams);
    let mut found = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        let (mut slice, after) = rest.split_at(cut().min(rest.len()));
        rest = after;
        while !slice.is_empty() {
            let (body, behind) = slice.split_at(framer.take_body(slice.len()));
            if let (Some(Found::Body { octets, .. }), false) = (found.last_mut(), body.is_empty()) {
                octets.extend_from_slice(body);
            }
            let (taken, frame) = match framer.feed(behind) {
                Ok(fed) => fed,
                Err(error) => {
                    found.push(Found::Refused(error.to_string()));
                    return found;
                }
            };
            slice = &behind[taken..];
            // An announcement and a line's end are written out behind what is bounded.
            assert!(framer.held().len() <= RESPONSE_MAX + 32, "{} held", framer.held().len());
            let held = framer.held().to_vec();
            match frame {
                Some(Frame::Response) => {
                    assert!(held.ends_with(b"\r\n"));
                    found.push(Found::Response(held));
                }
                Some(Frame::Body(size)) => {
                    assert!(held.ends_with(b"{0}\r\n"));
                    found.push(Found::Body { held, size, octets: Vec::new() });
                }
                None => assert!(slice.is_empty() || framer.body_left() > 0, "octets left over"),
            }
        }
    }
    check_bodies(&found, framer.body_left());
    let between = framer.is_between_responses();
    let held = if between { Vec::new() } else { framer.held().to_vec() };
    found.push(Found::Rest { held, body_left: framer.body_left(), between });
    found
}

/// Every body has the octets that were announced, but for the last one, some of which may be
/// still to come.
fn check_bodies(found: &[Found], left: u64) {
    let bodies = found.iter().filter_map(|found| match found {
        Found::Body { size, octets, .. } => Some(size - octets.len() as u64),
        _ => None,
    });
    let lacking: Vec<u64> = bodies.filter(|lacking| *lacking > 0).collect();
    assert!(lacking == [] as [u64; 0] && left == 0 || lacking == [left], "{lacking:?} and {left}");
}

fn check_response(octets: &[u8]) {
    match decode::response(octets) {
        Response::Tagged { tag, condition } => {
            assert!(tag.len() <= TEXT_MAX);
            check_condition(&condition);
        }
        Response::Untagged(condition) => check_condition(&condition),
        Response::Continue => {}
        Response::Data(data) => check_data(octets, data),
    }
}

fn check_condition(condition: &Condition) {
    assert!(condition.text.len() <= TEXT_MAX && condition.words().len() <= TEXT_MAX);
    let Some(code) = &condition.code else { return };
    for count in [1, 2, 100] {
        if let Some((_, uids)) = decode::append_uid(&code.rest, count) {
            assert_eq!(uids.len(), count);
        }
    }
}

fn check_data(octets: &[u8], data: Data) {
    match data {
        Data::Vanished(ranges) => assert!(ranges.iter().all(|(first, last)| first <= last)),
        Data::Capability(atoms) => {
            assert!(atoms.len() <= 256 && atoms.iter().all(|atom| atom.len() <= TEXT_MAX));
        }
        Data::Fetch(found) => check_fetch(octets, &found),
        Data::List(found) => {
            let scanned = scan::list(octets).expect("a LIST");
            assert!(is_same_name(&scanned.name, &found.name), "{scanned:?} and {found:?}");
            assert_eq!(scanned.delimiter, found.delimiter);
        }
        Data::Status(found) => {
            let scanned = scan::status(octets).expect("a STATUS");
            assert!(is_same_name(&scanned.name, &found.name), "{scanned:?} and {found:?}");
            assert_eq!(StatusData { name: found.name.clone(), ..scanned }, found);
        }
        Data::Id(name) => assert!(name.is_none_or(|name| name.len() <= TEXT_MAX)),
        _ => {}
    }
}

/// imap-codec writes INBOX in capital letters.
fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    one == other || WireName::of_wire(one).is_inbox() && WireName::of_wire(other).is_inbox()
}

/// What imap-codec reads, the scanner reads too: a UID or a size that depends on who was asked
/// would be a message taken for another.
fn check_fetch(octets: &[u8], found: &Attributes) {
    let flags = found.flags.iter().flat_map(|flags| flags.keywords());
    assert!(flags.count() <= scan::FLAGS_MAX);
    let scanned = scan::fetch(octets);
    check_same("UID", found.uid, scanned.uid);
    check_same("size", found.size, scanned.size);
    check_same("instant", found.instant, scanned.instant);
    check_same("flags", found.flags.as_ref(), scanned.flags.as_ref());
    check_same("body", found.body.as_ref(), scanned.body.as_ref());
}

fn check_same<T: PartialEq + std::fmt::Debug>(what: &str, one: Option<T>, other: Option<T>) {
    if let (Some(one), Some(other)) = (one, other) {
        assert_eq!(one, other, "{what}");
    }
}
