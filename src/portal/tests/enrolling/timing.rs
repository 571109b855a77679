//! A wrong name and a wrong password are one to whoever types them: the same is done for both, once,
//! at the provider and here. How long it takes measures `cargo bench -p pecsync-portal`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixListener;

use pecsync::config::portal::file_name;
use pecsync::daemon::protocol::status_socket;

use crate::site::{FNOFI, ODD, PASSWORD, World};
use crate::visitor::Visitor;

/// All that can be seen of a try, but for whose it was and when.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    /// What the provider was told.
    commands: Vec<String>,
    journal: String,
    counted: BTreeMap<String, u64>,
}

fn counted(world: &World) -> BTreeMap<String, u64> {
    let metrics = world.metrics().body;
    let pairs = metrics.lines().filter(|line| !line.starts_with('#'));
    let pairs = pairs.map(|line| line.rsplit_once(' ').unwrap());
    pairs.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

fn tried(world: &World, (ui, address): (&str, &str)) -> Seen {
    let (before, said) = (counted(world), world.portal_log().len());
    let mut visitor = Visitor::new(world);
    let page = visitor.begin((ui, address));
    let token = crate::visitor::form(&page);
    let answer = visitor.password(&page, "sbagliata");
    let anonymous = |text: &str| text.replace(address, "…").replace(&token, "…");
    let credentials = |line: String| {
        // A tag is drawn for each connection.
        let (_tag, command) = line.split_once(' ').unwrap();
        let (command, secret) = command.rsplit_once(' ').unwrap();
        format!("{command} and {} octets", secret.len())
    };
    let mut headers = answer.headers.clone();
    headers.remove("date").unwrap();
    let counts = counted(world).into_iter();
    Seen {
        status: answer.status,
        headers,
        body: anonymous(&answer.body),
        commands: world.odd.heard().into_iter().map(credentials).collect(),
        journal: anonymous(&world.portal_log()[said..]),
        counted: counts.map(|(name, count)| (name.clone(), count - before[&name])).collect(),
    }
}

#[test]
fn whether_there_is_such_a_mailbox_shows_nowhere_before_the_password_is_proved() {
    let world = World::new();
    world.odd.says("NO [AUTHENTICATIONFAILED] No");
    let enrolled = "c@strano.example";
    let file = world.site.conf_d().join("portal").join(file_name(enrolled));
    fs::write(file, format!("address = \"{enrolled}\"\n")).unwrap();
    // Of the same length, so that even counts of octets are equal.
    let listed = tried(&world, ODD);
    let unknown = tried(&world, (ODD.0, "b@strano.example"));
    let enrolled = tried(&world, (ODD.0, enrolled));
    assert!(listed.body.contains("Credenziali non valide"), "{}", listed.body);
    let [command] = &listed.commands[..] else { panic!("one login: {:?}", listed.commands) };
    assert!(command.contains("AUTHENTICATE PLAIN"), "{command}");
    assert_eq!(listed.counted.values().sum::<u64>(), 3, "a visit, a try, a refusal");
    assert_eq!(unknown, listed);
    assert_eq!(enrolled, listed);
}

#[test]
fn the_daemon_is_asked_of_nobody_who_has_not_proved_the_password() {
    let world = World::new();
    let socket = status_socket(&world.site.path("run/control.sock"));
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let daemon = UnixListener::bind(&socket).unwrap();
    daemon.set_nonblocking(true).unwrap();
    let asked = || match daemon.accept() {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    };
    for address in [FNOFI.1, "nessuno@pec.fnofi.it"] {
        let mut visitor = Visitor::new(&world);
        let page = visitor.begin((FNOFI.0, address));
        visitor.password(&page, "sbagliata").says("Credenziali non valide");
        assert!(!asked(), "{address}");
    }
    let mut visitor = Visitor::new(&world);
    let page = visitor.begin(FNOFI);
    visitor.password(&page, PASSWORD).says("è iniziata");
    assert!(asked(), "of who has, it is");
}
