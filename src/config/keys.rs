//! Every key a file may hold, table by table: what is supported and what is known but has no
//! behaviour yet. The manual is tested against this list.

/// Which kind of file a table stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `pecsync.toml` and `migrations.d/*.toml`.
    Settings,
    /// `conf.d/*.toml`.
    Enrollment,
}

/// The keys of one table.
#[derive(Debug)]
pub struct Keys {
    pub kind: Kind,
    /// As the manual heads it: `[migration.NAME.source]`; empty for the top of a file.
    pub table: &'static str,
    pub supported: &'static [&'static str],
    /// Promised by the contract; an error until the behaviour exists.
    pub not_yet: &'static [&'static str],
}

pub const TOP: Keys = settings("", &["daemon", "hooks", "limits", "portal", "migration"], &[]);
pub const HOOKS: Keys = settings(
    "[hooks]",
    &["account_held", "secret_expiring", "account_completed", "migration_completed"],
    &[],
);
pub const DAEMON: Keys = settings(
    "[daemon]",
    &[
        "conf_dir",
        "state_dir",
        "control_socket",
        "metrics_listen",
        "metrics_public",
        "metrics_accounts",
        "exit_when_completed",
    ],
    &[],
);
pub const LIMITS: Keys = settings(
    "[limits]",
    &[
        "accounts_copying",
        "logins_per_second",
        "connections_per_host",
        "sweeps_per_second",
        "memory",
        "schedule",
        "timezone",
        "host",
    ],
    &["source_addresses"],
);
pub const HOST_LIMITS: Keys = settings(
    "[limits.host.\"NAME\"]",
    &["logins_per_second", "connections_per_host", "sweeps_per_second"],
    &[],
);
pub const PORTAL: Keys = settings(
    "[portal]",
    &[
        "listen",
        "certificate",
        "certificate_key",
        "metrics_listen",
        "public_url",
        "trusted_proxies",
        "state_dir",
        "new_password_hook",
    ],
    &[],
);
pub const MIGRATION: Keys = settings(
    "[migration.NAME]",
    &[
        "domains",
        "timezone",
        "enroll_from",
        "enroll_until",
        "cutover",
        "cutover_window",
        "settle",
        "source_until",
        "accounts",
        "target_is_ours",
        "source",
        "target",
        "folders",
        "sync",
        "portal",
    ],
    &[],
);
pub const SOURCE: Keys = settings(
    "[migration.NAME.source]",
    &["provider", "host", "port", "tls", "ca_file", "service_login", "archive"],
    &[],
);
pub const ARCHIVE: Keys = settings("[migration.NAME.source.archive]", ENDPOINT, &[]);
pub const TARGET: Keys = settings("[migration.NAME.target]", ENDPOINT, &[]);
pub const SERVICE_LOGIN: Keys = settings(
    "[migration.NAME.source.service_login]",
    &["user", "password", "password_file", "credential", "style", "master_separator"],
    &[],
);
pub const FOLDERS: Keys = settings(
    "[migration.NAME.folders]",
    &["exclude", "after_cutover", "after_cutover_from", "rename"],
    &[],
);
pub const SYNC: Keys = settings(
    "[migration.NAME.sync]",
    &["deletions", "sweep_interval", "idle", "read_back", "in_doubt_wait"],
    &[],
);
pub const MIGRATION_PORTAL: Keys = settings(
    "[migration.NAME.portal]",
    &[
        "title",
        "logo",
        "new_provider",
        "contacts",
        "new_password",
        "two_factor",
        "webmail",
        "notice",
        "client",
        "help",
    ],
    &[],
);

pub const ENROLLMENT: Keys =
    enrollment("", &["address", "migration", "cutover", "source", "target", "contact"], &[]);
pub const ENROLLMENT_SOURCE: Keys = enrollment(
    "[source]",
    &["user", "sealed_password", "password_file", "password", "expires", "archive"],
    &[],
);
pub const ENROLLMENT_ARCHIVE: Keys =
    enrollment("[source.archive]", &["user", "sealed_password", "password_file", "password"], &[]);
pub const ENROLLMENT_TARGET: Keys =
    enrollment("[target]", &["user", "sealed_password", "password_file", "password"], &[]);
pub const CONTACT: Keys = enrollment("[contact]", &["email", "phone"], &[]);

/// All tables, in the order of the manual.
pub const ALL: &[&Keys] = &[
    &TOP,
    &DAEMON,
    &HOOKS,
    &LIMITS,
    &HOST_LIMITS,
    &PORTAL,
    &MIGRATION,
    &SOURCE,
    &ARCHIVE,
    &TARGET,
    &SERVICE_LOGIN,
    &FOLDERS,
    &SYNC,
    &MIGRATION_PORTAL,
    &ENROLLMENT,
    &ENROLLMENT_SOURCE,
    &ENROLLMENT_ARCHIVE,
    &ENROLLMENT_TARGET,
    &CONTACT,
];

const ENDPOINT: &[&str] = &["provider", "host", "port", "tls", "ca_file", "service_login"];

const fn settings(
    table: &'static str,
    supported: &'static [&'static str],
    not_yet: &'static [&'static str],
) -> Keys {
    Keys { kind: Kind::Settings, table, supported, not_yet }
}

const fn enrollment(
    table: &'static str,
    supported: &'static [&'static str],
    not_yet: &'static [&'static str],
) -> Keys {
    Keys { kind: Kind::Enrollment, table, supported, not_yet }
}

impl Keys {
    /// Other tables of the same kind of file where a misplaced key is at home.
    pub fn homes_of(&self, key: &str) -> Vec<&'static str> {
        let tables = ALL.iter().filter(|keys| keys.kind == self.kind && keys.table != self.table);
        let homes = tables.filter(|keys| keys.supported.contains(&key));
        homes
            .map(|keys| if keys.table.is_empty() { "the top of the file" } else { keys.table })
            .collect()
    }
}
