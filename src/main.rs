//! argv → command → exit code.

fn main() -> std::process::ExitCode {
    pecsync::cli::main()
}
