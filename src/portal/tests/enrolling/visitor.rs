//! Somebody without a browser, and what the page answers them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

/// An answer, as it came.
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn says(&self, words: &str) -> &Answer {
        assert!(self.text().contains(words), "{words:?} is not in {}", self.body);
        self
    }

    /// As somebody reads it: without entities.
    pub fn text(&self) -> String {
        let text = self.body.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
        text.replace("&amp;", "&")
    }

    /// The value of a hidden or other field.
    pub fn field(&self, before: &str) -> String {
        let text = self.text();
        let at = text.find(before).unwrap_or_else(|| panic!("no {before} in {text}"));
        let rest = &text[at + before.len()..];
        rest[..rest.find(if before.ends_with('\'') { '\'' } else { '"' }).unwrap()].to_owned()
    }
}

/// A connection to the page, of whatever kind.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Somebody with cookies and no browser.
pub struct Visitor {
    dial: Box<dyn Fn() -> Box<dyn Stream>>,
    pub cookies: BTreeMap<String, String>,
    pub origin: String,
    /// Lines of their own in the head of each request, with their ends.
    pub lines: String,
}

impl Visitor {
    pub fn to(port: u16) -> Visitor {
        let dial = move || Box::new(TcpStream::connect(("127.0.0.1", port)).unwrap()) as _;
        Visitor::by(dial, format!("http://127.0.0.1:{port}"))
    }

    pub fn by(dial: impl Fn() -> Box<dyn Stream> + 'static, origin: String) -> Visitor {
        let (cookies, lines) = (BTreeMap::new(), String::new());
        Visitor { dial: Box::new(dial), cookies, origin, lines }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, "")
    }

    /// Sends a form; a redirect is followed.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let answer = self.send("POST", path, &body.join("&"));
        match answer.headers.get("location") {
            Some(location) if answer.status == 303 => self.get(location.trim_start_matches("./")),
            _ => answer,
        }
    }

    pub fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: {}\r\n{}\
             Cookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.origin,
            self.lines,
            cookies.join("; "),
            body.len(),
        );
        let mut stream = (self.dial)();
        stream.write_all(request.as_bytes()).unwrap();
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets).unwrap();
        let text = String::from_utf8(octets).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = BTreeMap::new();
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            if name == "set-cookie" {
                let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            headers.insert(name.to_owned(), value.to_owned());
        }
        Answer { status, headers, body: body.to_owned() }
    }

    /// Through the first page, its captcha solved, to that of the password.
    pub fn begin(&mut self, (ui, address): (&str, &str)) -> Answer {
        let first = self.get(&format!("?ui={ui}"));
        assert_eq!(first.status, 200, "{}", first.body);
        let solution = solution(&first);
        let (local_part, domain) = address.split_once('@').unwrap();
        let fields = [("mailbox", local_part), ("domain", domain), ("solution", &solution)];
        let answer = self.post(&format!("?ui={ui}"), &fields);
        answer.says("Password della casella:").says(address);
        answer
    }

    /// The password on that page.
    pub fn password(&mut self, page: &Answer, password: &str) -> Answer {
        self.post("password", &[("form", &form(page)), ("password", password)])
    }
}

pub fn form(page: &Answer) -> String {
    page.field("name=\"form\" value=\"")
}

pub fn solution(first: &Answer) -> String {
    let text = first.text();
    let at = text.find("data-challenge=\"").unwrap() + "data-challenge=\"".len();
    let end = text[at..].find("}\"").unwrap() + 1;
    let challenge: altcha_lib_rs::Challenge = serde_json::from_str(&text[at..at + end]).unwrap();
    let altcha_lib_rs::Challenge { algorithm, challenge, maxnumber, salt, signature } = challenge;
    let number =
        altcha_lib_rs::solve_challenge(&challenge, &salt, None, Some(maxnumber), 0).unwrap();
    let solved =
        altcha_lib_rs::Payload { algorithm, challenge, number, salt, signature, took: None };
    serde_json::to_string(&solved).unwrap()
}

fn encoded(value: &str) -> String {
    value.bytes().map(|octet| format!("%{octet:02X}")).collect()
}
