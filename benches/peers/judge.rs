//! Is the copy exact? Counts and digests of all messages of a mailbox, folder by folder.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::imap::{Announced, Client, Place};

/// Per folder (levels separated by `/`): how many messages, and one digest of the sorted digests
/// of their octets, dates and flags.
pub async fn mailbox(place: &Place) -> BTreeMap<String, (usize, String)> {
    let mut client = Client::log_in(place).await;
    let mut found = BTreeMap::new();
    for folder in client.folders().await {
        client.run(&format!("EXAMINE \"{folder}\"")).await;
        let command = "f UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])\r\n";
        client.writer.put(command.as_bytes()).await;
        client.writer.flush().await;
        let mut messages = Vec::new();
        loop {
            let line = client.reader.line().await.expect("an answer");
            if line.starts_with(b"f ") {
                break;
            }
            let Some(Announced { flags, date, octets }) = Announced::parse(&line) else {
                continue;
            };
            let mut flags: Vec<&str> = flags.split(' ').collect();
            flags.sort_unstable();
            let mut hasher = Sha256::new();
            hasher.update(format!("{flags:?} {date} {octets}\n"));
            let mut left = octets;
            while left > 0 {
                let some = client.reader.some(left).await;
                left -= some.len();
                hasher.update(some);
            }
            messages.push(hasher.finalize());
        }
        messages.sort_unstable();
        let whole = messages.iter().fold(Sha256::new(), |whole, one| whole.chain_update(one));
        let digest = whole.finalize().iter().map(|octet| format!("{octet:02x}")).collect();
        found.insert(folder.replace('.', "/"), (messages.len(), digest));
    }
    found
}
