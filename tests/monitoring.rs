//! What is offered for Prometheus and Grafana is understood by them, and every alert fires when it
//! should. That the metrics exist is tested where they are made (`src/daemon/metrics.rs`).

use std::fs;
use std::path::Path;
use std::process::Command;

use pecsync::status::REASONS;
use serde_json::Value;

/// Where `install.sh` unpacks it.
const PROMTOOL: &str = "/var/cache/pecsync-tests/prometheus/usr/bin/promtool";

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[track_caller]
fn promtool(dir: &Path, arguments: &[&str]) {
    let output = Command::new(PROMTOOL).args(arguments).current_dir(dir).output();
    let output = output.unwrap_or_else(|error| panic!("{PROMTOOL}: {error}"));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn every_alert_fires_in_trouble_and_none_in_calm() {
    let dir = tempfile::tempdir().unwrap();
    let (rules, tests) = (text("docs/monitoring/alerts.yml"), text("tests/monitoring.test.yml"));
    fs::write(dir.path().join("alerts.yml"), &rules).unwrap();
    fs::write(dir.path().join("tests.yml"), &tests).unwrap();
    promtool(dir.path(), &["check", "rules", "alerts.yml"]);
    promtool(dir.path(), &["test", "rules", "tests.yml"]);
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}, ")), "{alert} in calm");
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{alert} in trouble");
        count += 1;
    }
    assert!(count > 10, "only {count} alerts");
    for named in rules.split("{reason=").skip(1) {
        let codes = named.trim_start_matches(['~', '"']).split('"').next().unwrap();
        for code in codes.split('|') {
            assert!(REASONS.contains(&code), "{code} is no reason");
        }
    }
}

#[test]
fn the_dashboard_asks_what_prometheus_understands() {
    let dashboard: Value = serde_json::from_str(&text("docs/monitoring/grafana.json")).unwrap();
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let mut ids = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        ids.push(panel["id"].as_u64().unwrap());
        for target in panel["targets"].as_array().unwrap() {
            let asked = target["expr"].as_str().unwrap();
            let asked = asked.replace("$migration", ".*").replace("$__rate_interval", "5m");
            assert!(!asked.contains('$'), "{asked}: Grafana does not know what to put there");
            let asked = asked.replace('\'', "''");
            rules += &format!("      - {{ record: panel_{}, expr: '{asked}' }}\n", ids.len());
        }
    }
    assert!(ids.len() > 10, "{ids:?}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dashboard.yml"), rules).unwrap();
    promtool(dir.path(), &["check", "rules", "dashboard.yml"]);
    let panels = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels, "a panel's number is its own");
}
