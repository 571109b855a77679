//! A booted systemd, on an overlay of some root file system.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// It halts when it goes out of scope.
pub struct Machine {
    dir: TempDir,
    /// What it writes to goes into a layer above this.
    below: PathBuf,
}

impl Machine {
    /// `None` where that cannot be done here.
    pub fn boot(below: &Path) -> Option<Machine> {
        // SAFETY: it takes and touches nothing.
        let root = unsafe { libc::geteuid() } == 0;
        let systemd = Path::new("/lib/systemd/systemd").exists();
        if !root || !systemd {
            eprintln!("root: {root}, systemd: {systemd}; not tested");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("pecsync-box-").tempdir().expect("a directory");
        let machine = Machine { dir, below: below.to_owned() };
        let output = machine.script("boot").output().expect("bash");
        assert!(output.status.success(), "{output:?}");
        Some(machine)
    }

    fn script(&self, action: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/systemd_boot/box.sh");
        let mut command = Command::new("bash");
        command.arg(script).arg(action).arg(self.dir.path()).stdin(Stdio::null());
        command.env("PECSYNC_BOX_BELOW", &self.below);
        command
    }

    pub fn run(&self, command: &[&str]) -> Output {
        self.script("run").args(command).output().expect("bash")
    }

    /// What a shell prints that must succeed.
    pub fn sh(&self, command: &str) -> String {
        let output = self.run(&["sh", "-c", command]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {said}\n{}", self.journal());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn journal(&self) -> String {
        let output = self.run(&["journalctl", "--no-pager", "-n", "50"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Copies a file of ours into the machine; `access` is `mode owner:group`.
    pub fn put(&self, source: &Path, path: &str, access: &str) {
        self.write_octets(&fs::read(source).expect("read"), path, access);
    }

    pub fn write(&self, text: &str, path: &str, access: &str) {
        self.write_octets(text.as_bytes(), path, access);
    }

    fn write_octets(&self, octets: &[u8], path: &str, access: &str) {
        let (mode, owner) = access.split_once(' ').expect("mode and owner");
        let draft = PathBuf::from(path).with_file_name(".draft");
        let draft = draft.display();
        let command = format!(
            "mkdir -p $(dirname {path}) && cat > {draft} && chown {owner} {draft} && \
             chmod {mode} {draft} && mv {draft} {path}"
        );
        let mut script = self.script("run");
        let child = script.args(["sh", "-c", &command]).stdin(Stdio::piped()).spawn();
        let mut child = child.expect("bash");
        child.stdin.take().expect("a pipe").write_all(octets).expect("written");
        assert!(child.wait().expect("waited").success(), "{command}");
    }

    /// A property of the unit.
    pub fn show(&self, property: &str) -> String {
        self.sh(&format!("systemctl show -p {property} --value pecsync")).trim().to_owned()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.sh("pecsync status --json")).expect("JSON")
    }

    /// The last entry of the journal that matches, once there is one.
    pub fn entry(&self, matching: &str) -> Value {
        let mut found = None;
        self.wait(matching, || {
            let entries = self.sh(&format!("journalctl -o json --all --no-pager {matching}"));
            found = entries.lines().last().map(|line| serde_json::from_str(line).expect("JSON"));
            found.is_some()
        });
        found.expect("it was found")
    }

    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.journal());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.script("halt").output();
    }
}
