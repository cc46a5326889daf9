//! `stapes-shim`: holds one running guest. The daemon starts it; it is not for people.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(u8::try_from(stapes_shim::supervise::main()).unwrap_or(1))
}
