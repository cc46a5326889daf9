//! The confined helper that reads images; see `stapes_drivers::image::unpack`.

fn main() -> std::process::ExitCode {
    stapes_drivers::image::unpack::main()
}
