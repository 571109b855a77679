//! What two servers can do at all: a blind pump. One pipeline of FETCHes on one connection, and
//! MULTIAPPENDs on another; no state, no checks, and no idea of what went wrong.

use super::imap::{Announced, Client, Place, Reader, Writer};

const BATCH_MESSAGES: usize = 100;
const BATCH_OCTETS: usize = 4 << 20;

pub async fn pump(source: &Place, target: &Place) {
    let (mut source, target) = tokio::join!(Client::log_in(source), Client::log_in(target));
    let Client { reader: mut answers, mut writer } = target;
    let folders = source.folders().await;
    let mut commands = String::new();
    for folder in &folders {
        commands += &format!("e EXAMINE \"{folder}\"\r\n");
        commands += "f UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])\r\n";
    }
    source.writer.put(commands.as_bytes()).await;
    source.writer.flush().await;
    let pumping = async {
        for folder in folders.iter().filter(|folder| *folder != "INBOX") {
            writer.put(format!("c CREATE \"{}\"\r\n", folder.replace('.', "/")).as_bytes()).await;
        }
        for folder in &folders {
            relay(&mut source.reader, &mut writer, &folder.replace('.', "/")).await;
        }
        writer.put(b"l LOGOUT\r\n").await;
        writer.flush().await;
    };
    let draining = async {
        while let Some(line) = answers.line().await {
            let line = String::from_utf8_lossy(&line);
            assert!(!line.starts_with("a ") || line.starts_with("a OK"), "{line}");
        }
    };
    tokio::join!(pumping, draining);
}

/// One folder, to the end of its FETCH.
async fn relay(source: &mut Reader, target: &mut Writer, folder: &str) {
    let (mut messages, mut octets) = (0, 0);
    loop {
        let line = source.line().await.expect("the source goes on");
        if line.starts_with(b"f ") {
            break;
        }
        let Some(Announced { flags, date, octets: size }) = Announced::parse(&line) else {
            continue;
        };
        if messages > 0 && (messages == BATCH_MESSAGES || octets + size > BATCH_OCTETS) {
            target.put(b"\r\n").await;
            (messages, octets) = (0, 0);
        }
        if messages == 0 {
            target.put(format!("a APPEND \"{folder}\"").as_bytes()).await;
        }
        target.put(format!(" ({flags}) \"{date}\" {{{size}+}}\r\n").as_bytes()).await;
        let mut left = size;
        while left > 0 {
            let some = source.some(left).await;
            left -= some.len();
            target.put(some).await;
        }
        (messages, octets) = (messages + 1, octets + size);
    }
    if messages > 0 {
        target.put(b"\r\n").await;
    }
    target.flush().await;
}
