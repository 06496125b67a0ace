//! The plugin `dog`: barks, as a shared library or linked into its host. Its code is the same in both.
//!
//! Try: `cargo run -p sample-host --example slink`, whose host links it, with a debugger's breakpoint
//! in `bark`.

use hotswap_plugin::prelude::*;

/// The key of the number of barks in the DataBag.
const BARKS: &str = "barks";

/// Barks.
#[derive(Default)]
struct Dog;

#[plugin]
impl Plugin for Dog {
    fn on_init(&self, vault: &Vault) -> Result<()> {
        vault.data_bag().carry(BARKS, || 0_u64)?;
        Ok(())
    }

    fn on_free(&self) {
        tracing::info!("the dog lies down");
    }
}

/// Barks `times` times; says how often it has barked in all.
#[invoke]
fn bark(vault: &Vault, times: u32) -> Result<String> {
    let add = |barks: &mut u64| {
        *barks += u64::from(times);
        *barks
    };
    let barks = vault.data_bag().update(BARKS, || 0_u64, add)?;
    tracing::debug!(times, barks, "the dog barks");
    let woofs = vec!["woof"; times.min(100) as usize].join(" ");
    Ok(format!("{woofs} ({barks} in all)"))
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the dog pricks its ears");
}
