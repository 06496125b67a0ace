//! Safe code that uses an import as another type gets an error when the import is bound.

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
    let refused = "refused: confuses: import: an import got the wrong object: found the interface \
                   `hostile_api::Number`, expected `hostile_api::Text`";
    assert!(end.output.contains(refused), "{:?} {}", end.status, end.output);
}
