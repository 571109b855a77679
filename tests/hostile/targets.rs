//! Targets that mean harm: what the daemon writes to is no more trusted than what it reads.

use std::io::Write;
use std::sync::Arc;

use super::peer::{DATE, GREETING, for_ever, listen, say};
use super::support::daemon::Account;
use super::support::dovecot::Dovecot;
use super::support::mail;
use super::support::stage::Stage;
use super::{Attack, attack, nobody_else_is_harmed, site_with, victim};

/// Targets that show what they are at some command.
fn attacks() -> Vec<Attack> {
    let lists = |command: &str| command.starts_with("LIST \"\" *");
    let appends = |command: &str| command.starts_with("APPEND");
    let protocol = |words| ("protocol_error", words);
    vec![
        attack("an endless line", protocol("too long"), move |_, command, out| {
            if lists(command) { for_ever(out, b"x") } else { Ok(false) }
        }),
        attack("a literal of 2^63", protocol("literal"), move |_, command, out| {
            let text = "* LIST () \"/\" {9223372036854775808}\r\n";
            if lists(command) { say(out, text) } else { Ok(false) }
        }),
        attack("a million folders", protocol("more folders"), move |tag, command, out| {
            if !lists(command) {
                return Ok(false);
            }
            for thousand in 0..1000 {
                let names = (0..1000).map(|n| format!("* LIST () \"/\" f{thousand}-{n}\r\n"));
                out.write_all(names.collect::<String>().as_bytes())?;
            }
            say(out, &format!("{tag} OK\r\n"))
        }),
        attack("messages without end", protocol("more than can be"), move |_, command, out| {
            if command.starts_with("SELECT") {
                say(out, "* 4294967295 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n")?;
                return Ok(false);
            }
            if !command.starts_with("UID FETCH") {
                return Ok(false);
            }
            for thousand in 0..20_000 {
                let messages = (1..=1000).map(|n| {
                    let uid = thousand * 1000 + n;
                    format!("* {uid} FETCH (UID {uid} FLAGS ($k{uid}) {DATE} RFC822.SIZE 8)\r\n")
                });
                out.write_all(messages.collect::<String>().as_bytes())?;
            }
            Ok(true)
        }),
        attack("a megabyte of permanent flags", protocol("too long"), |_, command, out| {
            let flags = " $parola".repeat(1 << 17);
            let text = format!("* OK [PERMANENTFLAGS (\\Seen{flags})] x\r\n");
            if command.starts_with("SELECT") { say(out, &text) } else { Ok(false) }
        }),
        attack("UIDs of four thousand million copies", ("", ""), move |tag, command, out| {
            let text = format!("{tag} OK [APPENDUID 7 1:4294967295] stored\r\n");
            if appends(command) { say(out, &text) } else { Ok(false) }
        }),
        attack("an OK with escapes", ("", ""), move |tag, command, out| {
            let text = format!("{tag} OK [APPENDUID 7 1] \u{1b}[31mrosso\u{7}\r\n");
            if appends(command) { say(out, &text) } else { Ok(false) }
        }),
        attack(
            "a NO with escapes",
            protocol("no \\x1b[31mrosso\\x07"),
            move |tag, command, out| {
                let text = format!("{tag} NO no \u{1b}[31mrosso\u{7} {}\r\n", "x".repeat(2000));
                if command.starts_with("SELECT") { say(out, &text) } else { Ok(false) }
            },
        ),
        attack(
            "talk for ever in place of an answer",
            protocol("too long"),
            move |_, command, out| {
                if appends(command) { for_ever(out, b"* OK un momento ") } else { Ok(false) }
            },
        ),
    ]
}

#[test]
fn hostile_targets_harm_nobody_else() {
    let attacks = attacks();
    let victims: Vec<Account> = (0..attacks.len()).map(victim).collect();
    let stage = Stage::between(Account::new("sano"), Dovecot::aruba(), Dovecot::legalmail());
    stage.plant("INBOX", &mail::pec(1, 20));
    let honest = Arc::new(|_: &str, _: &str, _: &mut std::net::TcpStream| Ok(false));
    let places = victims.iter().zip(100u8..);
    let places = places
        .map(|(victim, number)| (victim.clone(), listen(number, GREETING, honest.clone()), false));
    let targets = attacks.iter().zip(130u8..).map(|(attack, number)| {
        let target = listen(number, attack.greeting, attack.malice.clone());
        format!("host = \"{}\"\nport = {}\ntls = \"none\"\n", target.ip(), target.port())
    });
    let (places, targets) = (places.collect::<Vec<_>>(), targets.collect::<Vec<_>>());
    let site = site_with(&stage, &places, &targets);
    nobody_else_is_harmed(&stage, &site, &attacks, &victims);
}
