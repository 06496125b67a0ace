//! 6: safe code binds an import as another interface.

use hotswap_engine::args;

use crate::support::{Host, PluginDir, in_own_process};

#[test]
fn an_import_is_not_bound_as_another_interface() {
    let end = in_own_process(|| {
        let plugins = PluginDir::of(&["gives-number", "confuses"]);
        let host = Host::new(plugins, |builder| builder);
        match host.engine.reload() {
            Ok(_) => println!("loaded"),
            Err(error) => return println!("refused: {error}"),
        }
        let text = host.engine.invoke::<Option<String>>("confuses", "text", args![]);
        println!("{text:?}");
    });
    assert!(end.output.contains("refused"), "{:?} {}", end.status, end.output);
}
