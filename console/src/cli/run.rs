//! `hotswap run`

use super::args::RunArguments;
use super::{CLIENT_NAME, linear};
use crate::compare::probe::Prober;
use crate::failure::Failure;
use crate::session::{Options, Target};

pub(super) async fn run(arguments: RunArguments) -> Result<(), Failure> {
    let options = Options {
        target: Target::at(arguments.path)?,
        plugin_dir: arguments.plugins,
        host_arguments: arguments.host_arguments,
        cargo_flags: arguments.cargo.flags(),
        watch: arguments.watch.mode(),
        poll: arguments.watch.poll(),
        patch: arguments.watch.patch(),
        client_name: CLIENT_NAME,
        prober: Prober::this_program(),
        has_screen: false,
    };
    linear::run(options, arguments.output.json).await
}
