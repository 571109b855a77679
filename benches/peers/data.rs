//! The mail that is copied: three sets, the same in every run.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::servers::{Dovecot, give_away};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// 2,000 messages of 5 KB in 8 folders.
    S,
    /// 1,000 messages, log-normal with a median of 32 KB, 145 MB in all, in 4 folders.
    M,
    /// 20 messages of 20 MB.
    L,
}

impl Set {
    pub fn of(name: &str) -> Option<Set> {
        [Set::S, Set::M, Set::L].into_iter().find(|set| set.name() == name)
    }

    /// Also the source's user.
    pub fn name(self) -> &'static str {
        match self {
            Set::S => "S",
            Set::M => "M",
            Set::L => "L",
        }
    }

    /// Sizes of the messages, folder by folder.
    fn folders(self) -> Vec<(&'static str, Vec<usize>)> {
        let mut chance = Chance(0x5f01 + self as u64);
        let names = ["", ".Inviata", ".Archivio", ".Archivio.2023", ".Archivio.2024"];
        let more = [".Ricevute", ".Ricevute.Accettazione", ".Ricevute.Consegna"];
        let names = names.into_iter().chain(more);
        match self {
            Set::S => names
                .map(|name| (name, (0..250).map(|_| 4_200 + chance.below(1_600)).collect()))
                .collect(),
            Set::M => {
                let mut size = || (32_000.0 * (chance.normal() * 1.79).exp()) as usize;
                let mut clipped = || size().clamp(1_500, 20_000_000);
                names.take(4).map(|name| (name, (0..250).map(|_| clipped()).collect())).collect()
            }
            Set::L => vec![("", vec![20_000_000; 20])],
        }
    }

    /// Writes it into a Maildir of the source's user. Returns messages and octets.
    pub fn plant(self, home: &Path) -> (usize, usize) {
        let maildir = home.join("Maildir");
        let mut chance = Chance(0xb0d1 + self as u64);
        let (mut messages, mut octets) = (0, 0);
        for (folder, sizes) in self.folders() {
            let dir = maildir.join(folder);
            for part in ["cur", "new", "tmp"] {
                fs::create_dir_all(dir.join(part)).expect("created");
            }
            for (at, size) in sizes.into_iter().enumerate() {
                let text = message(messages, size, &mut chance);
                let flags = ["", "S", "RS", "FS"][chance.below(4)];
                let name = format!("{}.M{messages}P1.source:2,{flags}", 1_700_000_000 + at);
                let file = dir.join("cur").join(name);
                fs::write(&file, &text).expect("written");
                let instant = Duration::from_secs(1_700_000_000 + 60 * at as u64);
                let file = fs::File::options().write(true).open(file).expect("opened");
                file.set_modified(SystemTime::UNIX_EPOCH + instant).expect("dated");
                (messages, octets) = (messages + 1, octets + text.len());
            }
        }
        give_away(home);
        (messages, octets)
    }
}

/// A message such as providers of certified mail make: signed, with attachments in base64.
fn message(number: usize, size: usize, chance: &mut Chance) -> Vec<u8> {
    let mut text = format!(
        "Return-Path: <posta-certificata@pec.example>\nReceived: from a by b; {number}\n\
         Date: Tue, 14 Nov 2023 22:13:20 +0100\nFrom: \"Per conto di: mario@pec.example\" \
         <posta-certificata@pec.example>\nTo: giulia@pec.example\n\
         Subject: POSTA CERTIFICATA: pratica {number}\n\
         Message-ID: <opec.{number}@pec.example>\nX-Trasporto: posta-certificata\n\
         MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=\"{number}\"\n\n"
    )
    .into_bytes();
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    while text.len() < size {
        let mut line = [0; 77];
        for ten in line[..76].chunks_mut(10) {
            let bits = chance.next();
            for (at, letter) in ten.iter_mut().enumerate() {
                *letter = LETTERS[(bits >> (6 * at)) as usize & 63];
            }
        }
        line[76] = b'\n';
        text.extend_from_slice(&line);
    }
    text
}

/// splitmix64: the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Of the standard normal distribution.
    fn normal(&mut self) -> f64 {
        let uniform = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
        let (a, b) = (1.0 - uniform(self.next()), uniform(self.next()));
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// The Maildir of a user that holds nothing yet.
pub fn plant_nothing(source: &Dovecot, user: &str) {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(source.home(user).join("Maildir").join(part)).expect("created");
    }
    give_away(&source.home(user));
}

/// Delivers a message to INBOX as a delivery agent does.
pub fn deliver(source: &Dovecot, user: &str, number: usize) {
    let maildir = source.home(user).join("Maildir");
    let draft = maildir.join("tmp").join(format!("{number}"));
    fs::write(&draft, message(number, 5_000, &mut Chance(number as u64))).expect("written");
    give_away(Path::new(&draft));
    let name = format!("1700000000.M{number}P2.source");
    fs::rename(draft, maildir.join("new").join(name)).expect("renamed");
}
