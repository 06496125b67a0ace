//! `hotswap-console`: one screen to see and steer a host and its plugins.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    hotswap_console::screen::main()
}
