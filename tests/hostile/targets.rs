//! Targets that mean harm: what the daemon writes to is no more trusted than what it reads.

use std::sync::Arc;

use super::peer::{GREETING, for_ever, listen, say};
use super::support::daemon::Account;
use super::support::dovecot::Dovecot;
use super::support::mail;
use super::support::stage::Stage;
use super::{Attack, attack, attacks_of_both, nobody_else_is_harmed, site_with, victim};

/// Targets that show what they are at some command.
fn attacks() -> Vec<Attack> {
    let appends = |command: &str| command.starts_with("APPEND");
    let protocol = |words| ("protocol_error", words);
    vec![
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
    let attacks: Vec<Attack> = attacks_of_both("SELECT").into_iter().chain(attacks()).collect();
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
