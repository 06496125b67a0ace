//! The plugin `world`: says hello, and counts its greetings.
//!
//! Try: `hotswap invoke world greet Ada 2`. Then change a text below and save.

use hotswap_plugin::prelude::*;

/// The key of the number of greetings in the DataBag.
const GREETINGS: &str = "greetings";

/// Greets whoever asks.
#[derive(Default)]
struct World;

#[plugin]
impl Plugin for World {
    fn on_init(&self, vault: &Vault) -> Result<()> {
        vault.data_bag().carry(GREETINGS, || 0_u64)?;
        tracing::info!("the world is ready");
        Ok(())
    }

    fn on_free(&self) {
        tracing::info!("the world ends");
    }
}

/// Says hello to `name`, `times` times.
#[invoke]
fn greet(vault: &Vault, name: String, times: u32) -> Result<String> {
    if times > 1000 {
        return Err(Error::msg("a thousand greetings are enough"));
    }
    let total = vault.data_bag().update(
        GREETINGS,
        || 0_u64,
        |count| {
            *count += u64::from(times);
            *count
        },
    )?;
    tracing::debug!(name, times, total, "greeting");
    Ok(vec![format!("Hello, {name}!"); times as usize].join(" "))
}

/// How many greetings there were. The count outlives reloads.
#[invoke]
fn greetings(vault: &Vault) -> Result<u64> {
    Ok(vault.data_bag().get(GREETINGS)?.unwrap_or_default())
}

/// Logs a heartbeat of the host.
#[invoke]
fn heartbeat(beat: u64) {
    tracing::debug!(beat, "the world turns");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_an_ordinary_library() {
        heartbeat(1);
        assert!(World.reloadable());
    }
}
