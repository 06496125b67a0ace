//! `cargo hotswap`: the program `hotswap`, where cargo finds it.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hotswap_console::cli::main_of_cargo()
}
