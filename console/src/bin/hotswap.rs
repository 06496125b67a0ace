//! `hotswap`: everything the console does, for scripts.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hotswap_console::cli::main()
}
