//! The plugin `dog`: barks, as a shared library or linked into its host.
//!
//! Try: `cargo run -p sample-host --example slink`, which links it, and a debugger's breakpoint in
//! `bark`. Nothing in here knows which of the two it is.

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

/// Barks some times; says how often it has barked in all.
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

/// The host's heartbeat.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the dog pricks its ears");
}
