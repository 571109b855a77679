//! Data responses by imap-codec first, by imap-proto where that fails, by our own scanner where
//! both fail or drop an attribute. Each crate is called from this file only.

use std::borrow::Cow;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use imap_codec::ResponseCodec;
use imap_codec::decode::Decoder;
use imap_proto::AttributeValue;
use imap_proto::rfc2087::QuotaResourceName;
use imap_types::core::IString;
use imap_types::extensions::namespace::Namespace;
use imap_types::extensions::quota::Resource;
use imap_types::fetch::MessageDataItem;
use imap_types::flag::FlagFetch;
use imap_types::mailbox::Mailbox;
use imap_types::response::{Data as CodecData, Response as CodecResponse};
use imap_types::status::StatusDataItem;

use super::decode::{Attributes, Body, ListData, NamespaceData, StatusData, readable};
use super::{Quota, dates, scan};
use crate::words::{Flags, InternalDate, ModSeq, Uid};

/// Lists nested deeper go to the scanner only: the decoders recurse.
const NESTING_MAX: usize = 16;

/// FETCH: what imap-codec cannot read, imap-proto and the scanner read together.
pub(super) fn fetch(octets: &[u8]) -> Attributes {
    let mut found = Attributes::default();
    if is_shallow(octets) {
        if codec_fetch(octets, &mut found) {
            return found;
        }
        proto_fetch(octets, &mut found);
    }
    let scanned = scan::fetch(octets);
    if scanned.flags.is_some() {
        // imap-proto stops short of the end of a list at times.
        found.flags = None;
    }
    found.and(scanned)
}

fn codec(octets: &[u8]) -> Option<CodecData<'_>> {
    match ResponseCodec::new().decode(octets) {
        Ok((_, CodecResponse::Data(data))) => Some(data),
        _ => None,
    }
}

/// imap-codec fails as a whole or reads everything.
fn codec_fetch(octets: &[u8], found: &mut Attributes) -> bool {
    let Some(CodecData::Fetch { items, .. }) = codec(octets) else { return false };
    for item in items {
        match item {
            MessageDataItem::Uid(uid) => found.uid = Uid::new(uid.get()),
            MessageDataItem::Flags(flags) => found.flags = Some(codec_flags(&flags)),
            MessageDataItem::InternalDate(date) => {
                found.instant = Some(InternalDate(date.as_ref().timestamp()));
                found.tells_metadata = true;
            }
            MessageDataItem::Rfc822Size(size) => {
                found.size = Some(size.into());
                found.tells_metadata = true;
            }
            MessageDataItem::Rfc822(data) | MessageDataItem::BodyExt { data, .. } => {
                found.body = Some(body(data.into_option()));
            }
            _ => {}
        }
    }
    true
}

fn codec_flags(flags: &[FlagFetch<'_>]) -> Flags {
    let mut found = Flags::default();
    for flag in flags.iter().take(scan::FLAGS_MAX) {
        if let FlagFetch::Flag(flag) = flag {
            found.insert(&flag.to_string());
        }
    }
    found
}

fn body(octets: Option<Cow<'_, [u8]>>) -> Body {
    octets.map_or(Body::Nil, |octets| Body::Octets(octets.into_owned()))
}

/// imap-proto leaves out what it does not understand, so an attribute may still be missing. Its
/// FLAGS are believed only if not empty. Its strings keep their backslashes: bodies are left to
/// the scanner.
fn proto_fetch(octets: &[u8], found: &mut Attributes) {
    let Some(imap_proto::Response::Fetch(_, attributes)) = proto(octets) else { return };
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(uid) => found.uid = Uid::new(uid),
            AttributeValue::Rfc822Size(size) => found.size = Some(size.into()),
            AttributeValue::InternalDate(date) => found.instant = dates::parse(date.as_bytes()),
            AttributeValue::Flags(flags) if !flags.is_empty() => {
                found.flags =
                    Some(Flags::of_names(flags.iter().take(scan::FLAGS_MAX).map(|flag| &**flag)));
            }
            _ => {}
        }
    }
}

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// imap-proto behind `catch_unwind`: hostile responses make it panic. The panic hook is told to
/// keep silent meanwhile, or a peer could fill the log.
fn proto(octets: &[u8]) -> Option<imap_proto::Response<'_>> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let outer = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                outer(info);
            }
        }));
    });
    DECODING.set(true);
    let parsed = panic::catch_unwind(AssertUnwindSafe(|| imap_proto::Response::parse(octets)));
    DECODING.set(false);
    parsed.ok()?.ok().map(|(_, response)| response)
}

fn is_shallow(octets: &[u8]) -> bool {
    let mut depth = 0usize;
    for octet in octets {
        match octet {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return false;
        }
    }
    true
}

/// LIST: imap-proto does not unescape names, so it is not asked.
pub(super) fn list(octets: &[u8]) -> Option<ListData> {
    let shallow = is_shallow(octets).then(|| codec(octets)).flatten();
    let Some(CodecData::List { items, delimiter, mailbox }) = shallow else {
        return scan::list(octets);
    };
    Some(ListData {
        name: name(&mailbox),
        delimiter: delimiter.map(|delimiter| delimiter.inner()),
        attributes: items.iter().map(ToString::to_string).collect(),
    })
}

fn name(mailbox: &Mailbox<'_>) -> Vec<u8> {
    match mailbox {
        Mailbox::Inbox => b"INBOX".to_vec(),
        Mailbox::Other(other) => other.as_ref().to_vec(),
    }
}

pub(super) fn status(octets: &[u8]) -> Option<StatusData> {
    let Some(CodecData::Status { mailbox, items }) = codec(octets) else {
        return scan::status(octets);
    };
    let mut found = StatusData { name: name(&mailbox), ..StatusData::default() };
    for item in items.iter() {
        match item {
            StatusDataItem::Messages(messages) => found.messages = Some(*messages),
            StatusDataItem::UidNext(uid_next) => found.uid_next = Some(uid_next.get()),
            StatusDataItem::UidValidity(validity) => found.uid_validity = Some(validity.get()),
            StatusDataItem::HighestModSeq(modseq) => found.highest_modseq = Some(ModSeq(*modseq)),
            _ => {}
        }
    }
    Some(found)
}

pub(super) fn namespace(octets: &[u8]) -> Option<NamespaceData> {
    let shallow = is_shallow(octets).then(|| codec(octets)).flatten();
    let Some(CodecData::Namespace { personal, other, shared }) = shallow else {
        return scan::namespace(octets);
    };
    let prefixes = |namespaces: &[Namespace<'_>]| -> Vec<_> {
        namespaces
            .iter()
            .map(|one| (string(&one.prefix), one.delimiter.map(|d| d.inner())))
            .collect()
    };
    let others = [prefixes(&other), prefixes(&shared)].concat();
    Some(NamespaceData { personal: prefixes(&personal), others })
}

fn string(string: &IString<'_>) -> Vec<u8> {
    string.as_ref().to_vec()
}

pub(super) fn id(octets: &[u8]) -> Option<String> {
    if let Some(CodecData::Id { parameters }) = codec(octets) {
        let parameters = parameters?;
        let found =
            parameters.into_iter().find(|(key, _)| string(key).eq_ignore_ascii_case(b"name"));
        return found.and_then(|(_, value)| value.into_option()).map(|name| readable(&name));
    }
    match proto(octets)? {
        imap_proto::Response::Id(parameters) => {
            parameters?.get("name").map(|name| readable(name.as_bytes()))
        }
        _ => None,
    }
}

/// STORAGE comes in units of 1024 octets (RFC 9208, 5.1).
pub(super) fn quota(octets: &[u8]) -> Option<Quota> {
    let storage = |used: u64, limit: u64| Quota {
        used_octets: used.saturating_mul(1024),
        limit_octets: limit.saturating_mul(1024),
    };
    if let Some(CodecData::Quota { quotas, .. }) = codec(octets) {
        let found = quotas.as_ref().iter().find(|quota| quota.resource == Resource::Storage);
        return found.map(|found| storage(found.usage, found.limit));
    }
    let Some(imap_proto::Response::Quota(quota)) = proto(octets) else { return None };
    let found = quota.resources.iter().find(|one| one.name == QuotaResourceName::Storage);
    found.map(|found| storage(found.usage, found.limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(line: &str) -> Attributes {
        fetch(line.as_bytes())
    }

    #[test]
    fn fetch_loses_nothing_it_can_read() {
        for (line, uid, flags, instant, size) in [
            (
                "UID 5 FLAGS (\\Seen a) INTERNALDATE \"01-Jan-1970 00:00:01 +0000\" RFC822.SIZE 9",
                5,
                2,
                true,
                9,
            ),
            ("FLAGS ( \\Seen) UID 5 RFC822.SIZE 5000000000", 5, 1, false, 5_000_000_000),
            ("INTERNALDATE NIL UID 5 FLAGS () RFC822.SIZE 1", 5, 0, false, 1),
            (
                "UID 5 EMAILID (M1) FLAGS (x]) INTERNALDATE \" 1-Jan-1970 00:00:01 +0000\" RFC822.SIZE 1 ",
                5,
                1,
                true,
                1,
            ),
            (
                "UID 5 BODY[] {0}\r\n FLAGS (\\Recent) INTERNALDATE \"1-Jan-1970 00:00:01 +0000\" RFC822.SIZE 1",
                5,
                0,
                true,
                1,
            ),
            (
                "MODSEQ (624140003) UID 5 FLAGS (\\Answered \\Seen $Forwarded) INTERNALDATE \"01-Jan-1970 00:00:01 GMT\" RFC822.SIZE 1",
                5,
                3,
                true,
                1,
            ),
        ] {
            let found = attributes(&format!("* 3 FETCH ({line})\r\n"));
            assert_eq!(found.uid, Uid::new(uid), "{line}");
            assert_eq!(found.flags.map(|flags| flags.names().count()), Some(flags), "{line}");
            assert_eq!(found.instant, instant.then_some(InternalDate(1)), "{line}");
            assert_eq!(found.size, Some(size), "{line}");
        }
    }

    #[test]
    fn a_quoted_body_is_unescaped_whoever_reads_it() {
        for more in ["", " EMAILID (M1)", " X"] {
            let found = attributes(&format!("* 3 FETCH (UID 5 BODY[] \"a\\\"\\\\\"{more})\r\n"));
            assert_eq!(found.body, Some(Body::Octets(b"a\"\\".to_vec())), "{more}");
        }
    }

    #[test]
    fn of_two_uids_neither_is_believed() {
        let broken =
            b"* 2 FETCH (FLAGS ( \\Seen) RFC822.SIZE 5000000000 UID 8 INTERNALDATE \"17-Nov-2023 \
            22:13: 3 FETCH (BODY[]<0> {0}\r\n\xfcFLAGS () UID 9)\r\n";
        assert_eq!(fetch(broken).uid, None);
    }

    #[test]
    fn deep_nesting_is_survived() {
        let deep = format!("* 1 FETCH (BODYSTRUCTURE {} UID 5)\r\n", "(".repeat(100_000));
        assert_eq!(attributes(&deep).uid, None);
    }

    #[test]
    fn no_nesting_takes_long() {
        for inner in ["(", "((", "(\"a\" ", "(NIL ", "(\"a\" NIL (\"b\" ", "BODYSTRUCTURE ("] {
            for name in ["BODYSTRUCTURE", "ENVELOPE", "BODY", "X", "FLAGS"] {
                let deep = inner.repeat(NESTING_MAX - 1);
                let wide = inner.repeat(3000);
                for value in [&deep, &wide] {
                    let started = std::time::Instant::now();
                    attributes(&format!("* 1 FETCH ({name} {value}\r\n"));
                    attributes(&format!("* 1 FETCH (UID 1 {name} {value} 1))))))\r\n"));
                    assert!(started.elapsed().as_secs() < 5, "{name} {inner}");
                }
            }
        }
    }
}
