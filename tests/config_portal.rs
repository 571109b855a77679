//! What the enrollment page is told, and what of its files the daemon takes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use pecsync::config::portal::{NewPassword, file_name};
use pecsync::config::sealing::{self, Login};
use pecsync::config::{
    Context, Difference, SealingKey, Settings, Snapshot, load_in, read_dir_files, reconcile,
};
use secrecy::{ExposeSecret, SecretString};

const MIGRATION: &str = "[migration.epap]\ndomains = [\"pec.epap.it\"]\n\
    source.host = \"old.example\"\ntarget.host = \"new.example\"\n\
    source.service_login = { user = \"s\", password_file = \"service\" }\n\
    target.service_login = { user = \"m\", password_file = \"service\" }\n";
const MARIO: &str = "mario@pec.epap.it";

struct Site {
    dir: tempfile::TempDir,
    key: SealingKey,
}

impl Site {
    fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        for part in ["conf.d/portal", "migrations.d"] {
            fs::create_dir_all(dir.path().join(part)).unwrap();
        }
        private(&dir.path().join("pecsync.toml"), MIGRATION);
        private(&dir.path().join("service"), "segreta");
        sealing::new_key(dir.path(), None, Timestamp::now()).unwrap();
        let key = sealing::sealing_keys(dir.path()).remove(0);
        Site { dir, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn settings(&self) -> Settings {
        let now = "2026-01-15T12:00:00Z".parse().unwrap();
        let context = Context { now, credentials: None, checking: false, for_portal: false };
        load_in(&self.path("pecsync.toml"), &context).unwrap().0
    }

    fn sealed(&self, address: &str, password: &str) -> String {
        let sealed = self.key.seal(&SecretString::from(password), address, Login::Source).unwrap();
        format!("address = \"{address}\"\n[source]\nsealed_password = \"{sealed}\"\n")
    }

    /// What is active, by address, with its password and where it was enrolled; what is rejected.
    fn read(&self) -> (BTreeMap<String, (String, PathBuf)>, String) {
        let settings = self.settings();
        let files = read_dir_files(&settings.daemon.conf_dir);
        let nobody = BTreeMap::new();
        let (snapshot, _) = reconcile(&Snapshot::default(), files, &settings, &nobody);
        let active = snapshot.active().iter().map(|(address, it)| {
            let password = it.source_password.as_ref().unwrap().expose_secret().to_owned();
            (address.clone(), (password, it.file.clone()))
        });
        let said: Vec<String> = snapshot.problems().map(ToString::to_string).collect();
        (active.collect(), said.join("\n"))
    }
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_portal_may_say_only_who_and_with_which_sealed_password() {
    #[track_caller]
    fn check(name: Option<&str>, change: impl Fn(String) -> String, expected: &str) {
        let site = Site::new();
        let name = name.map_or_else(|| file_name(MARIO), str::to_owned);
        let file = site.path("conf.d/portal").join(name);
        private(&file, &change(site.sealed(MARIO, "vecchia")));
        let (active, said) = site.read();
        assert!(said.contains(expected), "{said}");
        match expected {
            "" => assert_eq!((active[MARIO].0.as_str(), said.as_str()), ("vecchia", "")),
            _ => assert!(active.is_empty(), "{active:?}"),
        }
    }
    let under = |table: &'static str| {
        move |text: String| text.replace("[source]\n", &format!("[source]\n{table}"))
    };
    let top = |line: &'static str| move |text: String| format!("{line}\n{text}");
    let end = |lines: &'static str| move |text: String| format!("{text}{lines}\n");
    check(None, |text| text, "");
    check(None, top("migration = \"epap\""), "");
    check(None, end("[contact]\nemail = \"m@x.it\"\nphone = \"+391234567890\""), "");
    check(None, top("cutover = \"2026-02-04T08:00\""), "\"cutover\" may not stand in a file of");
    check(None, end("[target]\nuser = \"M1\""), "\"target\" may not stand");
    check(None, under("user = \"altro\"\n"), "\"user\" may not stand");
    check(None, under("expires = \"2026-04-01\"\n"), "\"expires\" may not stand");
    check(None, |text| text.replace("sealed_password", "password"), "\"password\" may not stand");
    let file = "password_file = \"../../service\"\n";
    check(None, move |text| text.split("sealed").next().unwrap().to_owned() + file, "may not");
    check(Some("mario.toml"), |text| text, "is called c259");
    let none = |text: String| text.split("[source]").next().unwrap().to_owned();
    check(None, none, "\"sealed_password\" of the source is missing");
    check(None, |text| text.replace("mario@", "luigi@"), "is called");
    check(None, |text| text + &"#".repeat(17 << 10), "longer than 16 KiB");
}

#[test]
fn links_and_files_of_others_are_not_the_portals() {
    let site = Site::new();
    let (dir, outside) = (site.path("conf.d/portal"), site.path("outside"));
    let file = dir.join(file_name(MARIO));
    private(&outside, &site.sealed(MARIO, "vecchia"));
    symlink(&outside, &file).unwrap();
    assert!(site.read().1.contains("is a symbolic link"), "{}", site.read().1);
    fs::remove_file(&file).unwrap();
    fs::rename(&outside, &file).unwrap();
    assert_eq!(site.read().0.len(), 1);
    // Of whoever does not own the directory. Only root can give files away.
    // SAFETY: takes nothing, changes nothing.
    if unsafe { libc::geteuid() } == 0 {
        chown(&file, Some(65534), None).unwrap();
        assert!(site.read().1.contains("a file that is not the portal's"), "{}", site.read().1);
    }
}

#[test]
fn an_administrators_enrollment_comes_before_the_portals() {
    let site = Site::new();
    private(&site.path("conf.d/portal").join(file_name(MARIO)), &site.sealed(MARIO, "sua"));
    private(&site.path("conf.d/zeta.toml"), &site.sealed(MARIO, "nostra"));
    let (active, said) = site.read();
    assert_eq!(active[MARIO].0, "nostra");
    assert!(said.contains("is already enrolled by conf.d/zeta.toml"), "{said}");
}

/// Files and settings read again and again, as a daemon does.
#[derive(Default)]
struct Look(Snapshot);

impl Look {
    /// What changed, as signs, and what is active of mario's: password, target login, enrollment.
    fn at(&mut self, site: &Site, settings: &Settings) -> (String, String, String) {
        let files = read_dir_files(&settings.daemon.conf_dir);
        let (snapshot, differences) = reconcile(&self.0, files, settings, &BTreeMap::new());
        self.0 = snapshot;
        let signs = differences.iter().map(|difference| match difference {
            Difference::Accepted(_) => '+',
            Difference::Replaced(_) => '*',
            Difference::Repeated(_) => '=',
            Difference::Removed(_) => '-',
            Difference::Rejected(_) => '!',
        });
        let active = self.0.active().get(MARIO).map(|it| {
            let password = it.source_password.as_ref().map_or("", |it| it.expose_secret());
            let file = it.file.strip_prefix(site.dir.path()).unwrap();
            let file = file.file_name().unwrap().to_str().unwrap();
            format!("{password} {} {}", it.target_user, &file[..4])
        });
        let problems: Vec<String> = self.0.problems().map(ToString::to_string).collect();
        (signs.collect(), active.unwrap_or_default(), problems.join("\n"))
    }
}

#[test]
fn over_an_administrators_enrollment_the_portal_replaces_the_password_and_nothing_else() {
    let site = Site::new();
    let settings = site.settings();
    let (ours, owners) =
        (site.path("conf.d/mario.toml"), site.path("conf.d/portal").join(file_name(MARIO)));
    let put = |path: &Path, text: &str, minute: u64| {
        private(path, text);
        let written = SystemTime::UNIX_EPOCH + Duration::from_secs(1_768_000_000 + 60 * minute);
        fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    };
    let admins = |password: &str| site.sealed(MARIO, password) + "[target]\nuser = \"M7\"\n";
    let mut look = Look::default();
    let mut check = |signs: &str, active: &str, said: &str| {
        let (found, now, problems) = look.at(&site, &settings);
        assert_eq!((&*found, &*now), (signs, active));
        assert_eq!(problems.is_empty(), said.is_empty(), "{problems}");
        assert!(problems.contains(said), "{problems}");
        assert_eq!(look.at(&site, &settings).0, "", "a second look finds nothing");
    };
    put(&ours, &admins("nostra"), 1);
    check("+", "nostra M7 mari", "");
    // Contacts are not the portal's to change here.
    put(&owners, &(site.sealed(MARIO, "sua") + "[contact]\nemail = \"ladro@x.it\"\n"), 2);
    check("*", "sua M7 mari", "");
    put(&owners, &site.sealed(MARIO, "sua"), 3);
    check("=", "sua M7 mari", "");
    put(&owners, &site.sealed(MARIO, "nuova"), 4);
    check("*", "nuova M7 mari", "");
    // A slip of the administrator's changes nothing, nor does what the portal may not say.
    put(&ours, "address = 7\n", 5);
    check("!", "nuova M7 mari", "address");
    put(&ours, &admins("nostra"), 1);
    check("*", "nuova M7 mari", "");
    put(&owners, &(site.sealed(MARIO, "ladra") + "[target]\nuser = \"M8\"\n"), 6);
    check("*!", "nostra M7 mari", "\"target\" may not stand");
    put(&owners, &site.sealed(MARIO, "nuova"), 4);
    check("*", "nuova M7 mari", "");
    // What is written last is the password.
    put(&ours, &admins("ultima"), 7);
    check("*!", "ultima M7 mari", "which was written later, and whose password stays");
    put(&owners, &site.sealed(MARIO, "sua"), 8);
    check("*", "sua M7 mari", "");
    fs::remove_file(&owners).unwrap();
    check("*", "ultima M7 mari", "");
    put(&owners, &site.sealed(MARIO, "sua"), 8);
    check("*", "sua M7 mari", "");
    fs::remove_file(&ours).unwrap();
    check("*", "sua mario@pec.epap.it c259", "");
    // Whichever came first, the rest is the administrator's.
    put(&ours, &admins("nostra"), 1);
    check("*", "sua M7 mari", "");
    // A login that is not its owner's has no password to be replaced.
    let other = admins("nostra").replace("[source]\n", "[source]\nuser = \"altro\"\n");
    put(&ours, &other, 1);
    check("*!", "nostra M7 mari", "logs in with another user or a service login");
    let service = format!("address = \"{MARIO}\"\n[target]\nuser = \"M7\"\n");
    put(&ours, &service, 1);
    check("*", " M7 mari", "logs in with another user or a service login");
}

#[test]
fn the_page_is_told_what_it_shows_and_no_secret() {
    let site = Site::new();
    let load = |text: &str| {
        fs::write(site.path("pecsync.toml"), text).unwrap();
        let loaded = load_in(&site.path("pecsync.toml"), &Context::of_portal());
        loaded.map(|(settings, _)| settings).map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    };
    fs::set_permissions(site.path("pecsync.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(site.path("service")).unwrap();
    let portal = "[portal]\npublic_url = \"https://migra.example.it/webapp\"\n";
    let settings = load(&format!("{portal}{MIGRATION}[migration.epap.portal]\n")).unwrap();
    let service = settings.portal.service.unwrap();
    assert_eq!(service.public_url.origin, "https://migra.example.it");
    assert_eq!(service.public_url.path, "/webapp/");
    assert_eq!(service.metrics_listen, None);
    let elsewhere = format!("{portal}metrics_listen = \"192.0.2.1:9465\"\n{MIGRATION}");
    assert!(load(&elsewhere).unwrap_err().contains("is not on this machine only"));
    let pages = &settings.portal.pages["epap"];
    assert_eq!((pages.new_password, pages.contacts), (NewPassword::None, false));
    assert_eq!(pages.new_provider, "new.example");

    let plain = MIGRATION.replacen("password_file = \"service\"", "password = \"segreta\"", 1);
    let said = load(&plain).unwrap_err();
    assert!(said.contains("the portal can read this password") && !said.contains("segreta"));
    let asks = format!("{portal}{MIGRATION}[migration.epap.portal]\nnew_password = \"free\"\n");
    let said = load(&asks).unwrap_err();
    assert!(said.contains("asks for new passwords, which nobody is told"), "{said}");
    for (url, expected) in [
        ("http://migra.example.it/", "in the clear"),
        ("migra.example.it", "is not the address of a page"),
        ("https://migra.example.it/a?b", "is not the address of a page"),
    ] {
        let said = load(&format!("[portal]\npublic_url = \"{url}\"\n{MIGRATION}")).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
    let link = "[migration.epap.portal]\ntwo_factor = \"javascript:alert(1)\"\n";
    assert!(load(&format!("{MIGRATION}{link}")).unwrap_err().contains("is not a link"));
}

#[test]
fn passwords_reach_the_page_over_tls_or_on_this_machine() {
    let site = Site::new();
    private(&site.path("key.pem"), "");
    let check = |portal: &str, expected: &str| {
        let text = format!("[portal]\n{portal}\n{MIGRATION}");
        private(&site.path("pecsync.toml"), &text);
        let checking = Context { checking: true, ..Context::of_daemon() };
        let said = match load_in(&site.path("pecsync.toml"), &checking) {
            Ok((settings, _)) => {
                let service = settings.portal.service.unwrap();
                format!("{} {:?}", service.listen, service.certificate.map(|it| it.key))
            }
            Err(problems) => {
                let problems = problems.iter().map(ToString::to_string);
                problems.collect::<Vec<_>>().join("\n")
            }
        };
        assert!(said.contains(expected), "{said}");
    };
    let url = "public_url = \"https://migra.example.it/\"\n";
    let files = "certificate = \"chain.pem\"\ncertificate_key = \"key.pem\"\n";
    check(url, "127.0.0.1:8465 None");
    check(&format!("{url}listen = \"[::1]:80\""), "[::1]:80 None");
    let key = site.path("key.pem");
    check(&format!("{url}{files}listen = \"0.0.0.0:443\""), &format!("0.0.0.0:443 Some({key:?})"));
    for listen in ["0.0.0.0:80", "[::]:80", "192.0.2.1:8465", "[::ffff:192.0.2.1]:8465"] {
        let said = format!(
            "pecsync.toml:3:10: listen: \"{listen}\" would have passwords sent over the network in the \
             clear; add certificate and certificate_key, or write it like \"127.0.0.1:8465\""
        );
        check(&format!("{url}listen = \"{listen}\""), &said);
    }
    let one = |key: &str| format!("{url}{key} = \"a.pem\"\n");
    let said = "3:1: \"certificate\" without \"certificate_key\"; add certificate_key";
    check(&one("certificate"), said);
    check(&one("certificate_key"), "3:1: \"certificate_key\" without \"certificate\"");
    let here = format!("public_url = \"http://127.0.0.1:8465/\"\n{files}");
    check(&here, "pecsync.toml:2:14: the page speaks TLS itself; write https:// in public_url");
    // Where it is not there yet, or cannot be seen from here, the page says so as it starts.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let said = format!(
        "pecsync.toml:4:19: a private key that everybody on this machine can read; chmod o-rwx {}",
        key.display()
    );
    check(&format!("{url}{files}"), &said);
    fs::remove_file(&key).unwrap();
    check(&format!("{url}{files}"), "127.0.0.1:8465 Some");
}
