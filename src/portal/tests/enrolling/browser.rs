//! A headless Chromium, driven over WebDriver (W3C): a few commands of it, JSON over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{poll, signal_group, tie_to_this_thread};

/// How the standard spells an element's key.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Needs chromium and chromium-driver, which `tests/support/install.sh` sees to.
    pub fn new() -> Browser {
        Browser::with(&[])
    }

    /// With more of Chromium's arguments.
    pub fn with(more: &[String]) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", profile.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = tie_to_this_thread(&mut command).spawn().expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            line.split("started successfully on port ").nth(1)?.trim_end_matches('.').parse().ok()
        });
        // It goes on talking.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.expect("chromedriver says its port");
        let mut browser = Browser { driver, port, session: String::new(), _profile: profile };
        let data = browser._profile.path().join("profile");
        let mut arguments = vec![
            "--headless=new".to_owned(),
            // Tests run as root, where Chromium has no sandbox of its own.
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-background-networking".to_owned(),
            "--no-first-run".to_owned(),
            format!("--user-data-dir={}", data.display()),
        ];
        arguments.extend_from_slice(more);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": arguments, "binary": "/usr/bin/chromium" },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let begun = browser.ask("POST", "/session", &wanted);
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    pub fn open(&self, url: &str) {
        self.command("POST", "url", json!({ "url": url }));
    }

    pub fn back(&self) {
        self.command("POST", "back", json!({}));
    }

    pub fn reload(&self) {
        self.command("POST", "refresh", json!({}));
    }

    /// The one that is looked at.
    pub fn tab(&self) -> String {
        self.command("GET", "window", Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// Opens another, and looks at it.
    pub fn new_tab(&self) -> String {
        let opened = self.command("POST", "window/new", json!({ "type": "tab" }));
        let tab = opened["handle"].as_str().expect("a tab").to_owned();
        self.switch(&tab);
        tab
    }

    pub fn switch(&self, tab: &str) {
        self.command("POST", "window", json!({ "handle": tab }));
    }

    pub fn title(&self) -> String {
        self.command("GET", "title", Value::Null).as_str().unwrap_or_default().to_owned()
    }

    /// All that somebody sees; nothing while one page gives way to another.
    pub fn text(&self) -> String {
        let script = "return document.readyState === 'complete' ? document.body.innerText : ''";
        let body = json!({ "script": script, "args": [] });
        let text = self.try_command("POST", "execute/sync", &body);
        text.as_str().unwrap_or_default().to_owned()
    }

    pub fn click(&self, css: &str) {
        let element = self.find(css);
        self.command("POST", &format!("element/{element}/click"), json!({}));
    }

    /// Types over what is there.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.command("POST", &format!("element/{element}/clear"), json!({}));
        self.command("POST", &format!("element/{element}/value"), json!({ "text": text }));
    }

    /// What a script gives back, run in the page by the driver.
    pub fn script(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", json!({ "script": script, "args": [] }))
    }

    /// Cookies that the page which is shown would be sent, those that no script sees among them.
    pub fn cookies(&self) -> Vec<Value> {
        self.command("GET", "cookie", Value::Null).as_array().cloned().unwrap_or_default()
    }

    /// Shows pages as on a telephone of that size in CSS pixels; windows are never so narrow.
    pub fn phone(&self, (width, height): (u32, u32)) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": true,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// As on a desk again.
    pub fn desk(&self) {
        self.devtools("Emulation.clearDeviceMetricsOverride", json!({}));
    }

    fn devtools(&self, command: &str, params: Value) {
        self.command("POST", "goog/cdp/execute", json!({ "cmd": command, "params": params }));
    }

    /// What the browser complained of since it was asked last: refused scripts and styles, errors.
    pub fn complaints(&self) -> Vec<String> {
        let entries = self.command("POST", "se/log", json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries.iter().map(|entry| entry["message"].to_string()).collect()
    }

    #[track_caller]
    pub fn wait(&self, words: &str) -> String {
        let found = poll(Duration::from_secs(60), || {
            let text = self.text();
            text.contains(words).then_some(text)
        });
        found.unwrap_or_else(|| panic!("no {words:?} in: {}\n{:?}", self.text(), self.complaints()))
    }

    fn find(&self, css: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": css });
        let found = poll(Duration::from_secs(20), || {
            let found = self.try_command("POST", "element", &wanted);
            found[ELEMENT].as_str().map(str::to_owned)
        });
        found.unwrap_or_else(|| panic!("no {css}"))
    }

    fn command(&self, method: &str, path: &str, body: Value) -> Value {
        let value = self.try_command(method, path, &body);
        assert!(value["error"].is_null(), "{path}: {value}");
        value
    }

    fn try_command(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}/{path}", self.session), body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.try_command("DELETE", "", &Value::Null);
        }
        signal_group(self.driver.id(), libc::SIGKILL);
        let _ = self.driver.wait();
    }
}
