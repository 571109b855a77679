//! `[daemon]` and `[limits]`, with their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::problem::{Wrong, quoted};
use super::schedule::{self, Schedule};
use super::settings::{Daemon, HostLimits, Limits};
use super::table::Table;
use super::{dates, files, keys, values};

const ACCOUNTS_COPYING: usize = 8;
const MEMORY_BYTES: u64 = 256 << 20;
const MEMORY_BYTES_LEAST: u64 = 4 << 20;
const MEMORY_BYTES_MOST: u64 = 1 << 40;
const HOST_DEFAULTS: HostLimits =
    HostLimits { logins_per_second: 5.0, connections: 2000, sweeps_per_second: 10.0 };

/// Paths are relative to `dir`, that of `pecsync.toml`.
pub(super) fn daemon(table: Option<&Table<'_>>, dir: &Path) -> Daemon {
    let path = |key: &str, default: &str| {
        let found = table.and_then(|table| table.parsed(key, |path| files::beside(dir, path)));
        found.map_or_else(|| dir.join(default), |found| found.value)
    };
    if let Some(table) = table {
        table.allow(&keys::DAEMON);
    }
    let flag = |key| table.and_then(|table| table.flag(key)).unwrap_or(false);
    Daemon {
        conf_dir: path("conf_dir", "conf.d"),
        state_dir: path("state_dir", "/var/lib/pecsync"),
        control_socket: path("control_socket", "/run/pecsync/control.sock"),
        metrics_listen: table.and_then(metrics_listen),
        metrics_accounts: flag("metrics_accounts"),
        exit_when_completed: flag("exit_when_completed"),
    }
}

/// Everybody who reaches it reads names of migrations and, where that is wished, addresses.
fn metrics_listen(table: &Table<'_>) -> Option<SocketAddr> {
    let public = table.flag("metrics_public").unwrap_or(false);
    let listen = table.parsed("metrics_listen", |text| {
        text.parse::<SocketAddr>().map_err(|_| {
            let message = format!("{} is not an address with a port", quoted(text));
            Wrong::new(message, "write it like \"127.0.0.1:9464\"")
        })
    })?;
    if !public && !listen.value.ip().to_canonical().is_loopback() {
        let message = format!("metrics_listen = {} is not on this machine only", listen.value);
        let wrong = Wrong::new(message, "write a loopback address, or metrics_public = true");
        table.wrong(&listen.at, wrong);
    }
    Some(listen.value)
}

pub(super) fn limits(table: Option<&Table<'_>>) -> Limits {
    let Some(table) = table else {
        return Limits {
            accounts_copying: ACCOUNTS_COPYING,
            memory_bytes: MEMORY_BYTES,
            schedule: Schedule::none(),
            default: HOST_DEFAULTS,
            hosts: BTreeMap::new(),
        };
    };
    table.allow(&keys::LIMITS);
    let accounts_copying = table.count("accounts_copying", 1, 10_000);
    let default = host_limits(table, &HOST_DEFAULTS);
    Limits {
        accounts_copying: accounts_copying.map_or(ACCOUNTS_COPYING, |n| n.value as usize),
        memory_bytes: table.parsed("memory", memory).map_or(MEMORY_BYTES, |found| found.value),
        schedule: schedule(table),
        hosts: hosts(table, &default),
        default,
    }
}

fn schedule(table: &Table<'_>) -> Schedule {
    let zone = table.parsed("timezone", dates::zone).map(|found| found.value);
    let rules = table.list("schedule", schedule::rule).unwrap_or_default();
    Schedule {
        rules: rules.into_iter().map(|found| found.value).collect(),
        ..zone.map_or_else(Schedule::none, Schedule::of_zone)
    }
}

fn memory(text: &str) -> Result<u64, super::problem::Wrong> {
    let show = |octets: u64| format!("\"{}MiB\"", octets >> 20);
    values::within(values::size(text)?, MEMORY_BYTES_LEAST, MEMORY_BYTES_MOST, show)
}

/// Keys left out of a host's own table are those of all hosts.
fn hosts(table: &Table<'_>, default: &HostLimits) -> BTreeMap<String, HostLimits> {
    let Some(hosts) = table.table("host") else { return BTreeMap::new() };
    let mut limits = BTreeMap::new();
    for (name, table) in hosts.tables() {
        table.allow(&keys::HOST_LIMITS);
        match values::host(name.value) {
            Ok(host) => _ = limits.insert(host, host_limits(&table, default)),
            Err(wrong) => table.wrong(&name.at, wrong),
        }
    }
    limits
}

fn host_limits(table: &Table<'_>, default: &HostLimits) -> HostLimits {
    let connections = table.count("connections_per_host", 1, 1_000_000);
    let rate = |key, default| table.rate(key, 0.001, 10_000.0).unwrap_or(default);
    HostLimits {
        logins_per_second: rate("logins_per_second", default.logins_per_second),
        connections: connections.map_or(default.connections, |n| n.value as usize),
        sweeps_per_second: rate("sweeps_per_second", default.sweeps_per_second),
    }
}
