//! The commands: one file each.

pub fn main() -> std::process::ExitCode {
    todo!()
}
