//! `pecsync-portal`: the page on which owners of certified mailboxes enroll them.
//!
//! It ends in the file that an administrator would drop into conf.d, and holds no power of its
//! own: passwords are tried once, sealed for the daemon at that moment, and cannot be read back.
//!
//! Reading order: `server` is what is served, `connections` to whom, within which bounds, and `tls`
//! with which certificate; `exchange` is a request and its answer, `steps` what each page does,
//! `pages` what it shows and `words` in which language; `session` remembers a visitor, `captcha`
//! and `limits` keep machines and haste away, `trial` tries a password, `enrolled` writes the file,
//! `provision` hands new passwords on.

mod arguments;
mod captcha;
mod connections;
mod enrolled;
mod exchange;
mod limits;
mod pages;
mod provision;
mod server;
mod session;
mod steps;
mod tls;
mod token;
mod trial;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pecsync::config::{Context, Settings, load_in};
use zeroizing_alloc::ZeroAlloc;

/// Passwords pass through this memory, and not all that holds them is ours: what is given back is
/// wiped, whoever held it.
#[global_allocator]
static WIPED: ZeroAlloc<std::alloc::System> = ZeroAlloc(std::alloc::System);

const CONFIGURATION: u8 = 78;

fn main() -> ExitCode {
    let arguments = arguments::command().get_matches();
    harden();
    let config: &PathBuf = arguments.get_one("config").expect("it has a default");
    let done = match arguments.subcommand() {
        Some(("provision", its)) => read(config, &Context::of_provision())
            .and_then(|settings| provision::run(&settings, its.get_flag("once"))),
        _ => read(config, &Context::of_portal()).and_then(serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            eprintln!("pecsync-portal: {text}");
            ExitCode::from(code)
        }
    }
}

/// Passwords pass through this memory: no core dump, no ptrace by others; and a panic, which may be
/// about what a server or a visitor wrote, says where it was and no more.
fn harden() {
    // SAFETY: plain system calls on integers and on a struct that lives through the call.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        eprintln!("pecsync-portal: internal error at {place}");
    }));
}

/// An exit code, and what to say.
type Refusal = (u8, String);

fn read(config: &Path, context: &Context) -> Result<Settings, Refusal> {
    let loaded = load_in(config, context);
    let (settings, warnings) = loaded.map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (CONFIGURATION, lines.join("\npecsync-portal: "))
    })?;
    for warning in warnings {
        eprintln!("pecsync-portal: {warning}");
    }
    Ok(settings)
}

fn serve(settings: Settings) -> Result<(), Refusal> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| (1, error.to_string()))?;
    match runtime.block_on(server::run(settings))? {}
}
