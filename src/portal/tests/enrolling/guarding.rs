//! What keeps machines, other sites and prying eyes away.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use crate::site::{FNOFI, GEOMETRI, NEW_PASSWORD, PASSWORD, World};
use crate::visitor::{Visitor, form, solution};

#[test]
fn every_answer_of_an_https_page_says_so_and_what_browsers_may_do() {
    let world = World::with(|settings| {
        let from = settings.find("public_url = \"").unwrap();
        let to = from + settings[from..].find('\n').unwrap();
        let url = "public_url = \"https://migra.example.it/\"";
        format!("{}{url}{}", &settings[..from], &settings[to..])
    });
    let mut visitor = Visitor::new(&world);
    let long = "a".repeat(17 << 10);
    let mut answers = vec![visitor.send("POST", "?ui=fnofi", "mailbox=a")];
    assert_eq!(answers[0].status, 403, "of another origin");
    visitor.origin = "https://migra.example.it".to_owned();
    for (method, path, body, status) in [
        ("GET", "?ui=fnofi", "", 200),
        ("GET", "?ui=nessuna", "", 404),
        ("GET", "style.css", "", 200),
        ("GET", "portal.js", "", 200),
        ("GET", "logo?ui=fnofi", "", 404),
        ("GET", "metrics", "", 404),
        ("GET", "altro", "", 404),
        ("DELETE", "?ui=fnofi", "", 405),
        ("POST", "?ui=fnofi", "mailbox=a", 422),
        ("POST", "password", &long, 413),
        ("GET", "state", "", 200),
    ] {
        let answer = visitor.send(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}");
        answers.push(answer);
    }
    for answer in answers {
        let header = |name: &str| answer.headers.get(name).map(String::as_str);
        assert_eq!(header("strict-transport-security"), Some("max-age=31536000"));
        assert!(header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(header("x-content-type-options"), Some("nosniff"));
    }
}

#[test]
fn machines_other_pages_and_floods_are_kept_away() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    let mailbox = ("mailbox", "anna.neri");
    visitor.post("?ui=fnofi", &[mailbox]).says("Conferma di non essere un robot");
    visitor.post("?ui=fnofi", &[mailbox, ("solution", "{}")]).says("Conferma di non essere");
    let solved = solution(&visitor.get("?ui=fnofi"));
    let fields = [mailbox, ("solution", &*solved)];
    let page = visitor.post("?ui=fnofi", &fields);
    page.says("Password della casella:");
    visitor.post("?ui=fnofi", &fields).says("Conferma di non essere un robot");
    // A page elsewhere cannot send our forms, nor can one tab send another's.
    let own = std::mem::replace(&mut visitor.origin, "https://altrove.example".to_owned());
    assert_eq!(visitor.password(&page, PASSWORD).status, 403);
    visitor.origin = own;
    let stale = page;
    let page = visitor.begin(FNOFI);
    visitor.password(&stale, PASSWORD).says("in un'altra scheda");
    assert_eq!(visitor.send("POST", "password", &"a".repeat(17 << 10)).status, 413);
    // Script in every field comes back as text.
    let script = "\"><script>alert(1)</script>";
    for fields in
        [[("mailbox", script), ("solution", "")], [("mailbox", script), ("solution", script)]]
    {
        let answer = visitor.post("?ui=fnofi", &fields);
        assert!(!answer.body.contains("<script>"), "{}", answer.body);
    }
    let answer = visitor.post("password", &[("form", script), ("password", script)]);
    assert!(!answer.body.contains("<script>"), "{}", answer.body);
    // Each try is a login at the provider: an address has five, then it waits.
    let mut page = page;
    for try_ in 0..6 {
        if try_ % 2 == 0 {
            page = visitor.begin(FNOFI);
        }
        let answer = visitor.password(&page, "sbagliata");
        answer.says(if try_ < 5 { "Credenziali non valide" } else { "Troppi tentativi" });
    }
    assert_eq!(world.source.refusals(FNOFI.1), 5);
}

#[test]
fn a_network_that_begins_visit_after_visit_is_told_to_wait() {
    let world = World::new();
    let mut visitor = Visitor::new(&world);
    let mut begins = || visitor.post("?ui=fnofi", &[("mailbox", "anna.neri")]);
    begins().says("Conferma di non essere un robot");
    let waits = (0..300).any(|_| begins().text().contains("Troppi tentativi"));
    assert!(waits, "nothing holds it back");
    assert!(world.metrics().body.contains("too_often\"} 1"), "{}", world.metrics().body);
}

#[test]
fn who_sends_slowly_is_let_go() {
    let world = World::new();
    let port = world.port;
    let begun = |head: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        std::thread::spawn(move || {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    };
    // Each waits for the page, which ends what does not come to an end.
    let head = begun("GET /?ui=fnofi HTTP/1.1\r\nHost: x\r\n");
    let body = begun(&format!(
        "POST /?ui=fnofi HTTP/1.1\r\nHost: x\r\nOrigin: http://127.0.0.1:{port}\r\n\
         Content-Length: 99\r\n\r\nmailbox="
    ));
    let idle = begun("");
    let answer = body.join().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let (head, idle) = (head.join().unwrap(), idle.join().unwrap());
    assert!(!head.contains(" 200 ") && idle.is_empty(), "{head}{idle}");
}

/// A reverse proxy keeps connections for later, and with them what a password was read into.
#[test]
fn a_connection_ends_with_the_form_that_came_over_it() {
    let world = World::new();
    let mut stream = TcpStream::connect(("127.0.0.1", world.port)).unwrap();
    let head = "POST /password HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\
        Content-Length: 3\r\n\r\na=b";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
}

/// Of what a process holds in memory that it may write to.
pub fn is_in_memory(pid: u32, needle: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let (from, to) = (address(from), address(to));
        let mut octets = vec![0; usize::try_from(to - from).unwrap()];
        // Some of it cannot be read, such as what the kernel keeps there.
        let read = memory.read_at(&mut octets, from).unwrap_or(0);
        octets[..read].windows(needle.len()).any(|window| window == needle)
    })
}

#[test]
fn no_password_is_left_in_memory_once_it_was_sealed() {
    let world = World::new();
    let pid = world.portal_pid();
    let mut visitor = Visitor::new(&world);
    let page = visitor.begin(FNOFI);
    visitor.password(&page, "sbagliata-del-tutto").says("Credenziali non valide");
    visitor.password(&page, PASSWORD).says("è iniziata");
    let page = visitor.begin(GEOMETRI);
    let token = form(&page);
    visitor.password(&page, PASSWORD);
    let new = [("form", token.as_str()), ("new", NEW_PASSWORD), ("again", NEW_PASSWORD)];
    visitor.post("new-password", &new).says("è iniziata");
    assert!(is_in_memory(pid, GEOMETRI.1.as_bytes()), "the search finds what is there");
    for password in ["sbagliata-del-tutto", PASSWORD, NEW_PASSWORD] {
        // As browsers send it, too.
        let sent: String = password.bytes().map(|octet| format!("%{octet:02X}")).collect();
        assert!(!is_in_memory(pid, password.as_bytes()), "{password}");
        assert!(!is_in_memory(pid, sent.as_bytes()), "{password}, as it was sent");
    }
}
