//! First copies and new mail, beside the best tools and the ceiling of two servers.
//!
//! `make bench` runs it; see docs/performance.md. Needs root, for network namespaces of its own.

mod ceiling;
mod data;
mod imap;
mod judge;
mod latency;
mod link;
mod report;
mod servers;
mod tools;

use std::process::Command;
use std::time::Duration;

use data::Set;
use imap::Place;
use link::Line;
use report::Row;
use servers::Dovecot;
use tools::{Route, Tool};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("ceiling") => {
            let (source, target) = arguments[1..].split_at(4);
            block_on(ceiling::pump(&Place::parse(source), &Place::parse(target)));
        }
        Some("plant") => {
            let set = Set::of(&arguments[1]).expect("a set");
            let (messages, octets) = set.plant(arguments[2].as_ref());
            println!("{messages} {octets}");
        }
        _ => compare(&Plan::of_environment()),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// What is measured, from the environment: `SETS=S,M,L RTTS=0,20 RUNS=3 TOOLS=ceiling,pecsync`,
/// `NEWS=10` new messages at each distance.
struct Plan {
    sets: Vec<Set>,
    round_trips: Vec<Duration>,
    runs: usize,
    tools: Vec<Tool>,
    news: usize,
}

impl Plan {
    fn of_environment() -> Plan {
        let words = |name: &str, usual: &str| -> Vec<String> {
            let said = std::env::var(name).unwrap_or_default();
            let said = if said.is_empty() { usual } else { &said };
            said.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let number = |name: &str, usual: &str| words(name, usual)[0].parse().expect("a number");
        let named = |word: &String| Tool::ALL.into_iter().find(|tool| tool.name() == word);
        let all = Tool::ALL.map(Tool::name).join(",");
        let sets = words("SETS", "S,M,L");
        let tools = words("TOOLS", &all);
        Plan {
            sets: sets.iter().filter_map(|word| Set::of(word)).collect(),
            round_trips: words("RTTS", "0,20")
                .iter()
                .map(|word| Duration::from_millis(word.parse().expect("milliseconds")))
                .collect(),
            runs: number("RUNS", "3"),
            tools: tools.iter().filter_map(named).filter(|tool| tool.is_installed()).collect(),
            news: number("NEWS", "0"),
        }
    }
}

/// Writes a set in another process: what a process takes at its peak counts that of the one it was
/// forked from.
fn planted(set: Set, source: &Dovecot) -> (usize, usize) {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["plant", set.name()]).arg(source.home(set.name()));
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut numbers = text.split_whitespace().map(|word| word.parse().expect("a number"));
    (numbers.next().expect("messages"), numbers.next().expect("octets"))
}

fn compare(plan: &Plan) {
    let scratch = tools::scratch();
    let line = Line::lay();
    let source = Dovecot::source(scratch.path(), line.servers());
    let target = Dovecot::target(scratch.path(), line.servers());
    let mut rows = Vec::new();
    for set in &plan.sets {
        let (messages, octets) = planted(*set, &source);
        println!("{}: {messages} messages, {:.1} MB", set.name(), octets as f64 / 1e6);
        let place = Place::of(&source, set.name());
        // The source's caches are warm from here on.
        let original =
            link::on_thread(line.servers(), move || block_on(judge::mailbox(&place))).join();
        let original = original.expect("the source can be read");
        let planted: usize = original.values().map(|(count, _)| count).sum();
        assert_eq!(planted, messages, "the source shows what was planted");
        for round_trip in &plan.round_trips {
            for run in 0..plan.runs {
                for tool in &plan.tools {
                    let target_user = format!("{}-{}-{run}", set.name(), tool.name());
                    let dir = scratch.path().join("run");
                    std::fs::create_dir(&dir).expect("created");
                    let route = Route {
                        source: &source,
                        target: &target,
                        source_user: set.name(),
                        target_user: &target_user,
                        namespace: line.tools(*round_trip),
                        dir: dir.clone(),
                    };
                    let cost = tools::run(*tool, &route);
                    let place = Place::of(&target, &target_user);
                    let judging =
                        link::on_thread(line.servers(), move || block_on(judge::mailbox(&place)));
                    let mut copy = judging.join().expect("the target can be read");
                    // Folders that hold nothing need no copy.
                    copy.retain(|folder, found| found.0 > 0 || original.contains_key(folder));
                    let row = Row {
                        set: *set,
                        round_trip: *round_trip,
                        run,
                        tool: *tool,
                        cost,
                        exact: copy == original,
                    };
                    println!("{row}");
                    let careful = matches!(tool, Tool::Ceiling | Tool::Pecsync);
                    assert!(row.exact || !careful, "the copy is another one; see {copy:?}");
                    rows.push(row);
                    target.forget(&target_user);
                    std::fs::remove_dir_all(dir).expect("removed");
                    tools::settle();
                }
            }
        }
        source.forget(set.name());
    }
    let news = match plan.news {
        0 => Vec::new(),
        news => latency::measure(&line, &source, &target, scratch.path(), &plan.round_trips, news),
    };
    report::write(&rows, &news);
}
