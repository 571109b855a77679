//! A terminal that the binary believes in: `script` gives it one, 80 columns wide.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{poll, signal_group, tie_to_this_thread};

pub struct Terminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs a shell's command line there, with further variables of the environment.
    pub fn run(line: &str, environment: &[(&str, &str)]) -> Terminal {
        let mut command = Command::new("script");
        let line = format!("tty; stty cols 80 rows 24; exec {line}");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm").env("SHELL", "/bin/sh");
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = tie_to_this_thread(&mut command).spawn().expect("script (util-linux)");
        let mut output = child.stdout.take().expect("piped");
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let seen = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                seen.lock().expect("no panic here").extend(&buffer[..read]);
            }
        });
        Terminal { child, shown }
    }

    /// All that was shown so far, octet by octet.
    pub fn octets(&self) -> Vec<u8> {
        self.shown.lock().expect("no panic here").clone()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.octets()).into_owned()
    }

    pub fn wait_for(&self, what: &str) {
        let seen = poll(Duration::from_secs(60), || self.text().contains(what).then_some(()));
        assert!(seen.is_some(), "{what:?} is never shown:\n{}", self.text());
    }

    /// Waits until what is typed is not shown, or is again.
    pub fn wait_echo(&self, echo: bool) {
        self.wait_for("\n");
        let text = self.text();
        let device = text.lines().next().expect("tty says its name").trim().to_owned();
        assert!(Path::new(&device).exists(), "{device}");
        let word = if echo { " echo " } else { " -echo " };
        let set = || {
            let output = Command::new("stty").args(["-a", "-F", &device]).output().expect("stty");
            let said = String::from_utf8_lossy(&output.stdout).replace('\n', " ");
            said.contains(word).then_some(())
        };
        assert!(poll(Duration::from_secs(60), set).is_some(), "never{word}on {device}");
    }

    pub fn type_in(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush()).expect("typed");
    }

    /// How the command ended.
    pub fn wait(&mut self) -> Option<i32> {
        let ended = || self.child.try_wait().expect("a child");
        let status = poll(Duration::from_secs(60), ended);
        status.unwrap_or_else(|| panic!("it runs on:\n{}", self.text())).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        signal_group(self.child.id(), libc::SIGKILL);
        let _ = self.child.wait();
    }
}
