//! pecsync.toml and migrations.d: what is accepted, the defaults, and every mistake with its
//! place and remedy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use pecsync::config::{
    Context, Deletions, FolderUse, Problem, ReadBack, ServiceStyle, Settings, Tls, load_in,
};
use secrecy::ExposeSecret;
use tempfile::TempDir;

/// A configuration directory; `put` writes files only their owner can read.
struct Etc(TempDir);

impl Etc {
    fn new(main: &str) -> Etc {
        let etc = Etc(tempfile::tempdir().unwrap());
        fs::create_dir(etc.path("migrations.d")).unwrap();
        fs::create_dir(etc.path("conf.d")).unwrap();
        etc.put("pecsync.toml", main);
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> &Etc {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
        self.chmod(name, 0o640)
    }

    fn chmod(&self, name: &str, mode: u32) -> &Etc {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn load(&self) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
        load_in(&self.path("pecsync.toml"), &context())
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|problems| panic!("{}", lines(&problems))).0
    }

    fn problems(&self) -> String {
        match self.load() {
            Ok(_) => String::new(),
            Err(problems) => lines(&problems).replace(&self.0.path().display().to_string(), "ETC"),
        }
    }

    fn warnings(&self) -> String {
        lines(&self.load().unwrap().1).replace(&self.0.path().display().to_string(), "ETC")
    }
}

fn context() -> Context {
    let now: Timestamp = "2026-01-15T12:00:00Z".parse().unwrap();
    Context { now, credentials: None, checking: false, for_portal: false }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

const EPAP: &str = "[migration.epap]\n\
    domains = [\"pec.epap.it\"]\n\
    [migration.epap.source]\n\
    provider = \"aruba\"\n";

/// Appends lines to a migration that is fine, and says what is wrong with them (from line 5).
#[track_caller]
fn check(added: &str, expected: &str) {
    let etc = Etc::new(&format!("{EPAP}{added}\n"));
    assert_eq!(etc.problems(), expected, "for:\n{added}");
}

/// A whole pecsync.toml.
#[track_caller]
fn check_whole(text: &str, expected: &str) {
    assert_eq!(Etc::new(text).problems(), expected, "for:\n{text}");
}

#[test]
fn the_least_configuration_has_sane_defaults() {
    let settings = Etc::new(EPAP).settings();
    let limits = &settings.limits;
    assert_eq!(settings.daemon.conf_dir, settings.dir.join("conf.d"));
    assert_eq!(settings.daemon.state_dir, Path::new("/var/lib/pecsync"));
    assert_eq!(settings.daemon.control_socket, Path::new("/run/pecsync/control.sock"));
    assert!(!settings.daemon.exit_when_completed);
    assert_eq!((limits.accounts_copying, limits.memory_bytes), (8, 256 << 20));
    assert_eq!((limits.default.connections, limits.default.logins_per_second), (2000, 5.0));
    assert_eq!(limits.default.sweeps_per_second, 10.0);

    let epap = &settings.migrations["epap"];
    assert_eq!((epap.name.as_str(), epap.timezone.as_str()), ("epap", "Europe/Rome"));
    assert_eq!((epap.cutover, epap.source_until, epap.target_is_ours), (None, None, false));
    assert_eq!(epap.cutover_window, Duration::from_secs(6 * 3600));
    assert_eq!(epap.settle, Duration::ZERO);
    assert_eq!(epap.sync.sweep_interval, Duration::from_secs(300));
    assert_eq!(epap.sync.in_doubt_wait, Duration::from_secs(60));
    assert_eq!(epap.sync.idle, ["INBOX"]);
    assert_eq!((epap.sync.deletions, epap.sync.read_back), (Deletions::Mirror, ReadBack::Suspect));

    assert_eq!((epap.source.host.as_str(), epap.source.port), ("imaps.pec.aruba.it", 993));
    assert_eq!((epap.source.tls, epap.source.provider.as_deref()), (Tls::Implicit, Some("aruba")));
    assert!(epap.source.well_known.contains(&(FolderUse::Sent, "Inviata".to_owned())));
    assert_eq!((epap.target.host.as_str(), epap.target.port), ("mbox.cert.legalmail.it", 993));
    assert_eq!(epap.target.provider.as_deref(), Some("legalmail"));
    assert!(epap.target.well_known.contains(&(FolderUse::Sent, "INBOX/Spedite".to_owned())));
}

#[test]
fn everything_written_arrives() {
    let etc = Etc::new(
        r#"
[daemon]
conf_dir = "enrollments"
state_dir = "/srv/pecsync"
control_socket = "run/control.sock"
exit_when_completed = true
[limits]
accounts_copying = 3
logins_per_second = 0.5
connections_per_host = 100
sweeps_per_second = 2
memory = "64MiB"
[limits.host."IMAPS.pec.aruba.it"]
logins_per_second = 1
"#,
    );
    etc.put("secrets/source", "ignored: relative to migrations.d");
    etc.put("migrations.d/secrets/source", "s3cret\n");
    etc.put("migrations.d/roots.pem", "");
    etc.put(
        "migrations.d/epap.toml",
        r#"
[migration.epap]
domains = ["pec.epap.it", "PEC2.epap.it"]
timezone = "Europe/London"
cutover = 2026-02-04T08:00
cutover_window = "90m"
settle = "1d"
source_until = "2026-03-31"
target_is_ours = true
[migration.epap.source]
host = "localhost"
tls = "none"
[migration.epap.source.service_login]
user = "migrator"
password_file = "secrets/source"
style = "master"
[migration.epap.target]
host = "imap.example.it"
tls = "starttls"
ca_file = "roots.pem"
[migration.epap.target.service_login]
user = "migrator"
password = "s3cret"
[migration.epap.folders]
exclude = ["Spam", "Liste/**"]
rename = { "Inviata" = "INBOX/Spedite", "Cestino" = "INBOX/Trash" }
[migration.epap.sync]
deletions = "keep"
sweep_interval = "1m"
idle = []
read_back = "all"
in_doubt_wait = "5s"
"#,
    );
    let settings = etc.settings();
    let limits = &settings.limits;
    assert_eq!(settings.daemon.conf_dir, etc.path("enrollments"));
    assert_eq!(settings.daemon.control_socket, etc.path("run/control.sock"));
    assert!(settings.daemon.exit_when_completed);
    assert_eq!((limits.accounts_copying, limits.memory_bytes), (3, 64 << 20));
    assert_eq!((limits.default.connections, limits.default.logins_per_second), (100, 0.5));
    let aruba = &limits.hosts["imaps.pec.aruba.it"];
    assert_eq!((aruba.connections, aruba.logins_per_second), (100, 1.0));
    assert_eq!(aruba.sweeps_per_second, 2.0);

    let epap = &settings.migrations["epap"];
    assert_eq!(epap.domains, ["pec.epap.it", "pec2.epap.it"]);
    assert_eq!(epap.cutover.unwrap().to_string(), "2026-02-04T08:00:00Z");
    assert_eq!(epap.source_until.unwrap().to_string(), "2026-03-31T22:59:59.999999999Z");
    assert_eq!(epap.cutover_window, Duration::from_secs(5400));
    assert!(epap.target_is_ours);
    assert_eq!((epap.source.tls, epap.source.port), (Tls::None, 143));
    assert_eq!((epap.target.tls, epap.target.port), (Tls::StartTls, 143));
    assert_eq!(epap.target.ca_file.as_deref(), Some(&*etc.path("migrations.d/roots.pem")));
    assert_eq!((&epap.target.provider, epap.target.well_known.len()), (&None, 0));
    let source = epap.source.service_login.as_ref().unwrap();
    assert_eq!((source.user.as_str(), source.password.expose_secret()), ("migrator", "s3cret"));
    assert_eq!(source.style, ServiceStyle::Master { separator: "*".to_owned() });
    let target = epap.target.service_login.as_ref().unwrap();
    assert_eq!(
        (&target.style, target.password.expose_secret()),
        (&ServiceStyle::Authzid, "s3cret")
    );
    assert_eq!(epap.folders.exclude, ["Spam", "Liste/**"]);
    assert_eq!(epap.folders.rename["Inviata"], "INBOX/Spedite");
    assert_eq!((epap.sync.deletions, epap.sync.read_back), (Deletions::Keep, ReadBack::All));
    assert!(epap.sync.idle.is_empty());
    assert!(!format!("{settings:?}").contains("s3cret"));
}

#[test]
fn source_until_is_thirty_days_after_the_cutover() {
    let etc = Etc::new(
        &EPAP.replace("[migration.epap]\n", "[migration.epap]\ncutover = 2026-02-04T08:00\n"),
    );
    let until = etc.settings().migrations["epap"].source_until.unwrap();
    assert_eq!(until.to_string(), "2026-03-06T07:00:00Z");
}

#[test]
fn a_preset_applies_only_where_it_is_named_or_the_target_is_left_out() {
    let etc = Etc::new(&format!("{EPAP}port = 1993\n[migration.epap.target]\nhost = \"::1\"\n"));
    let settings = etc.settings();
    let epap = &settings.migrations["epap"];
    assert_eq!((epap.source.port, epap.source.well_known.len()), (1993, 4));
    assert_eq!((&epap.target.provider, epap.target.well_known.len()), (&None, 0));
    assert_eq!(epap.target.host, "::1");
    // An empty [target] names nothing.
    check(
        "[migration.epap.target]",
        "pecsync.toml:5:1: \"host\" is missing; add host = \"…\", or provider = one of \"aruba\", \"legalmail\"",
    );
}

#[test]
fn unknown_keys_name_the_nearest() {
    check("hots = \"x\"", "pecsync.toml:5:1: unknown key \"hots\"; did you mean \"host\"?");
    check("[deamon]", "pecsync.toml:5:2: unknown key \"deamon\"; did you mean \"daemon\"?");
    check(
        "[migration.epap.synk]",
        "pecsync.toml:5:17: unknown key \"synk\"; did you mean \"sync\"?",
    );
    check(
        "cutover = 2026-02-04",
        "pecsync.toml:5:1: unknown key \"cutover\"; it belongs in [migration.NAME]",
    );
    check(
        "[daemon]\nconf_dri = 1\ncolour = 2",
        "pecsync.toml:6:1: unknown key \"conf_dri\"; did you mean \"conf_dir\"?\n\
         pecsync.toml:7:1: unknown key \"colour\"; known here: conf_dir, state_dir, control_socket, metrics_listen, metrics_public, metrics_accounts, exit_when_completed",
    );
}

#[test]
fn keys_without_behaviour_are_refused() {
    #[track_caller]
    fn refused(added: &str, place: &str, key: &str) {
        let expected =
            format!("pecsync.toml:{place}: {key:?} is not supported yet; take the line out");
        check(added, &expected);
    }
    refused("[limits]\nsource_addresses = []", "6:1", "source_addresses");
}

#[test]
fn metrics_stay_on_this_machine_unless_it_is_said() {
    let daemon = |lines: &str| format!("{EPAP}[daemon]\n{lines}\n");
    let listen = |lines: &str| Etc::new(&daemon(lines)).settings().daemon.metrics_listen;
    assert_eq!(listen(""), None);
    let local = listen("metrics_listen = \"127.0.0.1:9464\"").unwrap();
    assert_eq!(local.to_string(), "127.0.0.1:9464");
    assert!(listen("metrics_listen = \"[::1]:9464\"").is_some());
    assert!(listen("metrics_listen = \"0.0.0.0:9464\"\nmetrics_public = true").is_some());
    check(
        "[daemon]\nmetrics_listen = \"0.0.0.0:9464\"",
        "pecsync.toml:6:18: metrics_listen = 0.0.0.0:9464 is not on this machine only; write a \
         loopback address, or metrics_public = true",
    );
    check(
        "[daemon]\nmetrics_listen = \"9464\"",
        "pecsync.toml:6:18: metrics_listen: \"9464\" is not an address with a port; write it like \
         \"127.0.0.1:9464\"",
    );
}

#[test]
fn folders_may_wait_for_the_cutover() {
    let folders = "[migration.epap.folders]\nafter_cutover = [\"Archivio\", \"Archivio/**\"]\n";
    let etc = Etc::new(&format!(
        "{}{folders}after_cutover_from = \"2026-02-05\"\n",
        epap_with("cutover = \"2026-02-04T08:00\"")
    ));
    let rules = &etc.settings().migrations["epap"].folders;
    assert_eq!(rules.after_cutover, ["Archivio", "Archivio/**"]);
    assert_eq!(rules.after_cutover_from.unwrap().to_string(), "2026-02-04T23:00:00Z");
    assert_eq!(
        Etc::new(&format!("{EPAP}{folders}")).warnings(),
        "pecsync.toml:6:1: the migration has no cutover after which these folders could be copied; \
         only accounts with a cutover of their own will have them copied"
    );
    check_whole(
        &format!(
            "{}{folders}after_cutover_from = 2026-05-01\n",
            epap_with("cutover = 2026-02-04\nsource_until = 2026-03-31")
        ),
        "pecsync.toml:9:22: after_cutover_from is after source_until, \
         2026-03-31T23:59:59+02:00; nothing is read from the source after that: write an earlier day",
    );
}

fn epap_with(line: &str) -> String {
    EPAP.replace("domains", &format!("{line}\ndomains"))
}

#[test]
fn the_enrolling_window_is_whole_days() {
    let lines = "enroll_from = \"2026-01-07\"\nenroll_until = 2026-02-03";
    let epap = &Etc::new(&epap_with(lines)).settings().migrations["epap"];
    let instants =
        [epap.enroll_from, epap.enroll_until].map(|instant| instant.unwrap().to_string());
    assert_eq!(instants, ["2026-01-06T23:00:00Z", "2026-02-03T22:59:59.999999999Z"]);
    check_whole(
        &epap_with("enroll_from = \"2026-01-07\"\nenroll_until = \"2026-01-06\""),
        "pecsync.toml:3:16: enroll_until is before enroll_from; write a later day",
    );
}

/// `accounts = "accounts.csv"` with a file of these octets; the rows that were understood.
fn roster(octets: &[u8]) -> Result<Vec<String>, String> {
    let etc = Etc::new(&epap_with("accounts = \"accounts.csv\""));
    fs::write(etc.path("accounts.csv"), octets).unwrap();
    let (settings, _) = etc.load().map_err(|problems| lines(&problems))?;
    let roster = settings.migrations["epap"].accounts.clone().unwrap();
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let row = |(address, row): (&str, &pecsync::config::RosterRow)| {
        let (email, phone) = (&row.contact.email, &row.contact.phone);
        format!("{address} {} {} {}", show(&row.target_user), show(email), show(phone))
    };
    Ok(roster.iter().map(row).collect())
}

#[test]
fn accounts_as_offices_export_them() {
    let plain = "address,target_user,email,phone\nA@pec.epap.it,M1,a@x.it,+39 333 1234567\n";
    let expected = Ok(vec!["a@pec.epap.it M1 a@x.it +393331234567".to_owned()]);
    assert_eq!(roster(plain.as_bytes()), expected);
    assert_eq!(roster(plain.replace(',', ";").as_bytes()), expected);
    assert_eq!(roster(plain.replace('\n', "\r\n").as_bytes()), expected);
    assert_eq!(roster(format!("\u{feff}{plain}").as_bytes()), expected);
    let windows = b"Cognome;Address;Target_User;email;phone\nNicol\xf2; a@pec.epap.it ;M1;a@x.it;\"+39 333 1234567\"\n";
    assert_eq!(roster(windows), expected);
    let sparse = "address\nb@pec.epap.it\n\nc@other.it\n,\n";
    assert_eq!(roster(sparse.as_bytes()), Ok(vec!["b@pec.epap.it - - -".to_owned()]));
    let contact = "address,email,phone\na@pec.epap.it,not one,0733\n";
    assert_eq!(roster(contact.as_bytes()), Ok(vec!["a@pec.epap.it - - -".to_owned()]));
}

#[test]
fn mistakes_in_accounts_are_named_by_line() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(roster(text.as_bytes()), Err(expected.to_owned()), "{text}");
    }
    check(
        "name,user\n",
        "accounts.csv:1:1: no column \"address\"; begin the file with a line that names its \
         columns: address,target_user,email,phone",
    );
    check(
        "address,target-user\n",
        "accounts.csv:1:1: unknown column \"target-user\"; did you mean \"target_user\"?",
    );
    check(
        "",
        "accounts.csv: an empty file; begin the file with a line that names its columns: \
         address,target_user,email,phone",
    );
    check(
        "address,target_user\na@pec.epap.it,M1\nA@PEC.epap.it,M2\nb@pec.epap.it,m1\n,M4\n",
        "accounts.csv:3:1: a@pec.epap.it is already in line 2; remove one of the two rows\n\
         accounts.csv:4:1: target_user \"m1\" is already in line 2; each account has a login of \
         its own\n\
         accounts.csv:5:1: no address; fill it in, or remove the row",
    );
    let etc = Etc::new(&epap_with("accounts = \"gone.csv\""));
    assert_eq!(
        etc.problems(),
        "pecsync.toml:2:12: accounts: cannot be read: no such file; create it, or correct its name"
    );
    let etc = Etc::new(&epap_with("accounts = \"accounts.csv\""));
    etc.put("accounts.csv", "address\na@other.it\n");
    assert_eq!(etc.warnings(), "accounts.csv: no account of pec.epap.it; is it the right file?");
}

#[test]
fn wrong_types_are_named_without_their_values() {
    check(
        "port = \"993\"",
        "pecsync.toml:5:8: port must be a whole number, not a string; write port = 5, without quotes",
    );
    check(
        "host = 5",
        "pecsync.toml:5:8: host must be a string, not an integer; write host = \"…\"",
    );
    check(
        "[daemon]\nexit_when_completed = \"yes\"",
        "pecsync.toml:6:23: exit_when_completed must be true or false, not a string; \
         write exit_when_completed = true or exit_when_completed = false, without quotes",
    );
    check(
        "[migration.epap.folders]\nexclude = \"Spam\"",
        "pecsync.toml:6:11: exclude must be a list of strings, not a string; write exclude = [\"…\", \"…\"]",
    );
    check(
        "[migration.epap.source.service_login]\nuser = \"x\"\npassword = 12345678",
        "pecsync.toml:7:12: password must be a string, not an integer; write password = \"…\"",
    );
    check_whole(
        "migration = 5",
        "pecsync.toml:1:13: migration must be a table, not an integer; write a heading that ends in migration]",
    );
    check_whole(
        "[migration]\nepap = 5",
        "pecsync.toml:2:8: epap must be a table, not an integer; write a heading that ends in epap]",
    );
    check_whole(
        "[[limits]]",
        "pecsync.toml:1:1: limits must be a table, not an array; write a heading that ends in limits]",
    );
}

#[test]
fn values_out_of_range() {
    check("port = 0", "pecsync.toml:5:8: port: 0 is out of range; write 1 to 65535");
    check(
        "port = 99999999999999999999",
        "pecsync.toml:5:8: port: 99999999999999999999 is out of range; write 1 to 65535",
    );
    check(
        "[limits]\nlogins_per_second = -1\nsweeps_per_second = nan\nmemory = \"1KiB\"",
        "pecsync.toml:6:21: logins_per_second: -1 is out of range; write 0.001 to 10000\n\
         pecsync.toml:7:21: sweeps_per_second: NaN is out of range; write 0.001 to 10000\n\
         pecsync.toml:8:10: memory: \"0MiB\" is out of range; write \"4MiB\" to \"1048576MiB\"",
    );
    check(
        "[migration.epap.sync]\nsweep_interval = \"0s\"",
        "pecsync.toml:6:18: sweep_interval: \"0s\" is out of range; write \"1s\" to \"1d\"",
    );
    check(
        "[migration.epap.sync]\nsweep_interval = \"5 apples\"\ndeletions = \"mirorr\"\nread_back = \"maybe\"",
        "pecsync.toml:6:18: sweep_interval: \"5 apples\" is not a duration; write a number with its unit, like \"90s\", \"5m\", \"1h30m\" or \"2d\"\n\
         pecsync.toml:7:13: deletions: \"mirorr\" is not known here; did you mean \"mirror\"?\n\
         pecsync.toml:8:13: read_back: \"maybe\" is not known here; write one of \"suspect\", \"all\", \"off\"",
    );
}

#[test]
fn what_is_missing_is_missed_at_its_table() {
    check_whole(
        "[migration.epap]\n",
        "pecsync.toml:1:1: \"domains\" is missing; add domains = [\"…\"], the domains whose accounts are moved\n\
         pecsync.toml:1:1: the source is missing; add [migration.epap.source] with a host or a provider",
    );
    check(
        "[migration.epap.source.service_login]",
        "pecsync.toml:5:1: \"user\" is missing; add user = \"…\", the service's login\n\
         pecsync.toml:5:1: the service login has no password; add exactly one of password_file, credential, password",
    );
}

#[test]
fn clear_text_stays_on_this_machine() {
    #[track_caller]
    fn refused(host: &str) {
        check(
            &format!("host = \"{host}\"\ntls = \"none\""),
            &format!(
                "pecsync.toml:6:7: tls = \"none\" would send passwords to {host} in the clear; \
                 write tls = \"implicit\" or \"starttls\"; \"none\" is for this machine only"
            ),
        );
    }
    refused("10.0.0.1");
    refused("imap.example.it");
    refused("2001:db8::1");
    check("host = \"127.0.0.1\"\ntls = \"none\"", "");
    check("host = \"localhost\"\ntls = \"none\"", "");
    check("host = \"[::1]\"\ntls = \"none\"", "");
}

#[test]
fn providers_and_hosts() {
    let unknown = EPAP.replace("aruba", "arubba");
    check_whole(
        &unknown,
        "pecsync.toml:4:12: provider: unknown provider \"arubba\"; known presets: \"aruba\", \"legalmail\"; for others write host = \"…\"",
    );
    check(
        "host = \"imap.example.it:993\"",
        "pecsync.toml:5:8: host: \"imap.example.it:993\" is not a host; write the host alone; the port has a key of its own, `port`",
    );
    check(
        "ca_file = \"nowhere.pem\"",
        "pecsync.toml:5:11: ca_file: ETC/nowhere.pem cannot be read: no such file; create it, or correct its name",
    );
}

#[test]
fn dates_are_checked_in_their_place() {
    let with = |lines: &str| EPAP.replace("domains", &format!("{lines}\ndomains"));
    check_whole(
        &with("cutover = \"2026-03-29T02:30\""),
        "pecsync.toml:2:11: cutover: 2026-03-29T02:30 does not exist in Europe/Rome: the clocks skip it; \
         write \"2026-03-29T02:30+01:00\" (the clocks show 03:30) or \"2026-03-29T02:30+02:00\" (the clocks show 01:30)",
    );
    check_whole(
        &with("cutover = 2026-10-25T02:30:00"),
        "pecsync.toml:2:11: cutover: 2026-10-25T02:30 happens twice in Europe/Rome: the clocks are put back; \
         write \"2026-10-25T02:30+02:00\" or \"2026-10-25T02:30+01:00\"",
    );
    check_whole(
        &with("cutover = 2026-02-04\nsource_until = 2026-02-03"),
        "pecsync.toml:3:16: source_until is before the cutover, line 2; \
         the last pass comes after the cutover: write a later day, or leave it out",
    );
    check_whole(
        &with("timezone = \"Europe/Roma\""),
        "pecsync.toml:2:12: timezone: unknown time zone \"Europe/Roma\"; did you mean \"Europe/Rome\"?",
    );
    check_whole(
        &with("cutover = 5"),
        "pecsync.toml:2:11: cutover must be a date, not an integer; write cutover = \"2026-02-04T08:00\"",
    );
    check_whole(
        &with("cutover = 08:00:00"),
        "pecsync.toml:2:11: cutover: 08:00:00 is a time of day without a date; \
        write it like 2026-02-04, 2026-02-04T08:00 or 2026-02-04T08:00+01:00",
    );
}

#[test]
fn duplicates_across_files_name_the_first() {
    let etc = Etc::new(EPAP);
    etc.put("migrations.d/a.toml", EPAP);
    etc.put("migrations.d/b.toml", &EPAP.replace("migration.epap", "migration.altro"));
    assert_eq!(
        etc.problems(),
        "migrations.d/a.toml:1:12: migration \"epap\" is already in pecsync.toml:1:12; give one of them another name, or remove it\n\
         migrations.d/b.toml:2:12: pec.epap.it already belongs to migration \"epap\", pecsync.toml:2:12; a domain is listed once: remove it from one of them",
    );
}

#[test]
fn migrations_d_holds_migrations_only() {
    let etc = Etc::new("");
    etc.put("migrations.d/epap.toml", &format!("{EPAP}[daemon]\nstate_dir = \"/x\"\n"));
    etc.put("migrations.d/.hidden.toml", "nonsense");
    etc.put("migrations.d/backup.toml~", "nonsense");
    assert_eq!(
        etc.problems(),
        "migrations.d/epap.toml:5:2: [daemon] stands in a file of migrations; it belongs in pecsync.toml"
    );
}

#[test]
fn folders() {
    check(
        "[migration.epap.folders]\nrename = { \"Inviata\" = \"X\", \"Bozze\" = \"X\" }",
        "pecsync.toml:6:29: \"Inviata\" and \"Bozze\" both become \"X\"; give each folder a target of its own",
    );
    check(
        "[migration.epap.folders]\nexclude = [\"/Spam\", 5]",
        "pecsync.toml:6:12: exclude: \"/Spam\" is not a folder name; write it as users see it, with \"/\" between levels, like \"INBOX/Spedite\"\n\
         pecsync.toml:6:21: exclude must be a list of strings, not an integer; write exclude = [\"…\", \"…\"]",
    );
}

#[test]
fn all_syntax_errors_and_all_else_at_once() {
    let etc =
        Etc::new("[daemon]\nstate_dir = /var/lib\nconf_dri = \"x\"\n[limits]\nmemory = \"lots\"\n");
    let problems = etc.problems();
    assert!(problems.contains("pecsync.toml:2:13: "), "{problems}");
    assert!(problems.contains("pecsync.toml:3:1: unknown key \"conf_dri\""), "{problems}");
    assert!(problems.contains("pecsync.toml:5:10: memory: \"lots\" is not a size"), "{problems}");
}

#[test]
fn a_key_written_twice() {
    check("port = 993\nport = 994", "pecsync.toml:6:1: duplicate key; keep one of them");
}

#[test]
fn service_logins() {
    const HEAD: &str = "[migration.epap.source.service_login]\nuser = \"m\"\n";
    #[track_caller]
    fn refused(added: &str, expected: &str) {
        check(&format!("{HEAD}{added}"), expected);
    }
    refused(
        "password = \"a\"\npassword_file = \"b\"",
        "pecsync.toml:8:1: both password and password_file; keep one of them",
    );
    refused(
        "password = \"\"",
        "pecsync.toml:7:12: password: an empty password; write the password, or leave the key out",
    );
    refused(
        "password = \"s3cret\"\nstyle = \"plain\"",
        "pecsync.toml:8:9: style: \"plain\" is not known here; write one of \"authzid\", \"master\"",
    );
    refused(
        "password = \"s3cret\"\nmaster_separator = \"+\"",
        "pecsync.toml:8:20: master_separator goes with style = \"master\"; take it out",
    );
    refused(
        "password_file = \"../secret\"",
        "pecsync.toml:7:17: password_file: \"../secret\" climbs out of its directory; name the file without \"..\"",
    );
    refused(
        "password_file = \"secret\"",
        "pecsync.toml:7:17: password_file: ETC/secret cannot be read: no such file; create it, or correct its name",
    );
}

#[test]
fn password_files() {
    const MAIN: &str = "[migration.epap]\ndomains = [\"pec.epap.it\"]\n[migration.epap.source]\n\
        provider = \"aruba\"\n[migration.epap.source.service_login]\nuser = \"m\"\npassword_file = \"secrets/source\"\n";
    #[track_caller]
    fn check(content: &str, mode: u32, expected: &str) {
        let etc = Etc::new(MAIN);
        etc.put("secrets/source", content).chmod("secrets/source", mode);
        match expected.strip_prefix("= ") {
            Some(password) => {
                let settings = etc.settings();
                let login = settings.migrations["epap"].source.service_login.as_ref().unwrap();
                assert_eq!(login.password.expose_secret(), password);
            }
            None => {
                assert_eq!(etc.problems(), format!("pecsync.toml:7:17: password_file: {expected}"))
            }
        }
    }
    check("s3cret", 0o600, "= s3cret");
    check("s3cret\n", 0o640, "= s3cret");
    check("s3cret\r\n", 0o640, "= s3cret");
    check(" s3 cret ", 0o640, "=  s3 cret ");
    check(
        "s3cret\nmore\n",
        0o640,
        "ETC/secrets/source holds more than one line; keep the password alone in it, on one line",
    );
    check(
        "\n",
        0o640,
        "ETC/secrets/source holds an empty password; write the password, or leave the key out",
    );
    check(
        "s3cret",
        0o644,
        "a file with a password that everybody on this machine can read; chmod o-rwx ETC/secrets/source",
    );

    let etc = Etc::new(MAIN);
    etc.put("elsewhere", "s3cret");
    fs::create_dir(etc.path("secrets")).unwrap();
    std::os::unix::fs::symlink(etc.path("elsewhere"), etc.path("secrets/source")).unwrap();
    let refused = "ETC/secrets/source is a symbolic link; put the file itself there, or name the file it leads to";
    assert_eq!(etc.problems(), format!("pecsync.toml:7:17: password_file: {refused}"));
}

#[test]
fn credentials_come_from_systemd() {
    let main = format!(
        "{EPAP}[migration.epap.source.service_login]\nuser = \"m\"\ncredential = \"source\"\n"
    );
    let etc = Etc::new(&main);
    etc.put("credentials/source", "s3cret\n");
    let load = |context: Context| load_in(&etc.path("pecsync.toml"), &context);

    let given = Context { credentials: Some(etc.path("credentials")), ..context() };
    let (settings, _) = load(given).unwrap();
    let login = settings.migrations["epap"].source.service_login.as_ref().unwrap();
    assert_eq!(login.password.expose_secret(), "s3cret");

    let remedy = "add LoadCredential=source:/path/to/the/file to the unit's [Service]";
    let elsewhere = Context { credentials: Some(etc.path("conf.d")), ..context() };
    let problems = load(elsewhere).unwrap_err();
    assert_eq!(
        lines(&problems),
        format!("pecsync.toml:7:14: credential: no credential \"source\"; {remedy}")
    );
    let none = "credential: no credentials: the service was not started by systemd with any";
    let problems = load(context()).unwrap_err();
    assert_eq!(lines(&problems), format!("pecsync.toml:7:14: {none}; {remedy}"));
    let (_, warnings) = load(Context { checking: true, ..context() }).unwrap();
    assert_eq!(lines(&warnings), format!("pecsync.toml:7:14: {none}; {remedy}"));
}

#[test]
fn a_plain_password_that_everybody_can_read_is_refused() {
    let main = format!(
        "{EPAP}[migration.epap.source.service_login]\nuser = \"m\"\npassword = \"s3cret\"\n"
    );
    let etc = Etc::new(&main);
    assert_eq!(etc.problems(), "");
    etc.chmod("pecsync.toml", 0o644);
    assert_eq!(
        etc.problems(),
        "pecsync.toml: a file with a plain password that everybody on this machine can read; chmod o-rwx ETC/pecsync.toml"
    );
    let etc = Etc::new(EPAP);
    etc.chmod("pecsync.toml", 0o644);
    assert_eq!(etc.problems(), "");
}

#[test]
fn no_message_repeats_a_password() {
    const HEAD: &str = "[migration.epap.source.service_login]\nuser = \"m\"\n";
    for line in [
        "password = hunter2",
        "password = \"hunter2",
        "password = \"hunter2\" hunter2",
        "password = \"hunter2\\q\"",
        "password = \"hunter2\\n\"",
        "password = [\"hunter2\"]",
        "password = { hunter2 = \"hunter2\" }",
        "pasword = \"hunter2\"",
        "password = \"hunter2\"\npassword = \"hunter2\"",
        "password = 'hunter2'hunter2'",
        "password = \"\"\"hunter2",
    ] {
        let etc = Etc::new(&format!("{EPAP}{HEAD}{line}\n"));
        let problems = etc.problems();
        assert!(!problems.is_empty(), "{line} is accepted");
        assert!(!problems.contains("hunter2"), "{line}: {problems}");
    }
}

#[test]
fn warnings_stop_nothing() {
    assert_eq!(Etc::new(EPAP).warnings(), "");
    let past = EPAP.replace("domains", "cutover = 2026-01-15T08:00\ndomains");
    assert_eq!(
        Etc::new(&past).warnings(),
        "pecsync.toml:2:11: the cutover 2026-01-15T08:00:00+01:00 has passed; \
         accounts that are enrolled now are copied once, and nothing is removed"
    );
    assert_eq!(
        Etc::new("").warnings(),
        "pecsync.toml: no migration is configured; add [migration.NAME] to it or to a file in migrations.d"
    );
    assert_eq!(
        Etc::new(&format!("daemon.conf_dir = \"else where\"\n{EPAP}")).warnings(),
        "pecsync.toml: conf_dir ETC/else where is not a directory; mkdir 'ETC/else where'"
    );
}

#[test]
fn files_that_cannot_be_read() {
    let etc = Etc::new("");
    fs::remove_file(etc.path("pecsync.toml")).unwrap();
    assert_eq!(
        etc.problems(),
        "pecsync.toml: cannot be read: no such file; create it, or correct its name"
    );
    fs::create_dir(etc.path("pecsync.toml")).unwrap();
    assert_eq!(etc.problems(), "pecsync.toml: not a regular file; put a file of text there");
    fs::remove_dir(etc.path("pecsync.toml")).unwrap();
    fs::write(etc.path("pecsync.toml"), b"# ok\n# perch\xe9\n").unwrap();
    assert_eq!(etc.problems(), "pecsync.toml:2:8: not UTF-8; save the file as UTF-8");
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_welcome() {
    let text = format!("\u{feff}{}", EPAP.replace('\n', "\r\n"));
    assert_eq!(Etc::new(&text).problems(), "");
    assert_eq!(
        Etc::new(&format!("{text}hots = 1\r\n")).problems(),
        "pecsync.toml:5:1: unknown key \"hots\"; did you mean \"host\"?"
    );
}
