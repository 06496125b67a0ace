//! Makes the README's pictures and its recording from a real run of the sample host:
//!
//! ```text
//! cargo run -p hotswap-console --example screenshots
//! ```
//!
//! It builds and starts the host, calls a function, looks at what another build of its plugin would
//! change, reloads, and draws what the console shows then to `assets/`.

mod cast;
mod console;
mod svg;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use crossterm::event::KeyCode;
use hotswap_build::{HostPackage, Store};
use hotswap_console::compare::probe;
use hotswap_console::host::operation::Operation;
use hotswap_console::screen::input::action::{Action, Motion};
use hotswap_console::screen::layout::Tab;
use hotswap_console::screen::model::State;
use hotswap_console::screen::model::overlay::Overlay;
use hotswap_console::screen::model::preview::Replaying;
use hotswap_console::screen::model::tree::TreeTab as _;
use hotswap_console::screen::update::Input;
use hotswap_engine::artifact;
use hotswap_protocol::VersionState;

use console::Console;

const PLUGIN: &str = "world";
/// A text in the plugin, and another one as long: what its next build says.
const GREETINGS: [&[u8]; 2] = [b"Hello, ", b"Howdy, "];
const WIDE: (u16, u16) = (120, 36);
const NARROW: (u16, u16) = (80, 24);

fn main() -> ExitCode {
    if let Some(code) = probe::serve() {
        return code;
    }
    let made =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|it| it.block_on(make()));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn make() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let host = root.join("sample-host");
    let package = {
        let host = host.clone();
        tokio::task::spawn_blocking(move || HostPackage::open(&host)).await??
    };
    let count = package.plugins.len();
    let mut console = Console::start(&host, WIDE);
    console.until("the host's plugins", |state| state.plugins.list().len() >= count).await?;
    console.record()?;

    console.act(Action::Move(Motion::Last))?;
    console.act(Action::Invoke)?;
    for (name, times) in [("Grace", "1"), ("Ada", "2")] {
        console.fill_in(&[name, times])?;
        console.submit().await?;
    }
    console.look();
    console.act(Action::Pin)?;
    console.until("the pinned call", |state| !state.pins.in_order().is_empty()).await?;

    let plugin_dir = package.plugin_dir.clone();
    let store_dir = package.target_dir.join("hotswap/store");
    tokio::task::spawn_blocking(move || {
        build_otherwise(&plugin_dir, &store_dir).map_err(|it| it.to_string())
    })
    .await??;
    console.press(KeyCode::Esc)?;
    console.act(Action::Preview)?;
    console.until("the preview", has_preview).await?;
    console.look();
    console.press(KeyCode::Char('a'))?;
    console.until("the pinned call in both builds", has_replayed).await?;
    console.look();
    console.act(Action::Back)?;
    console.state.overlay = None;
    console.act(Action::Operate(Operation::Reload))?;
    console.until("the old version freed", is_freed).await?;
    console.look();
    console.act(Action::Invoke)?;
    console.fill_in(&["Ada", "2"])?;
    console.submit().await?;
    console.look();
    console.draw_to(&root.join("assets/screen-120x36.svg"), WIDE)?;

    console.press(KeyCode::Esc)?;
    console.act(Action::Show(Tab::Vault))?;
    console.until("the Vault", |state| !state.vault.rows().is_empty()).await?;
    console.look();
    console.act(Action::Show(Tab::Timeline))?;
    console.look();
    if let Some(recording) = console.recorded() {
        recording.write_to(&root.join("assets/session.cast"))?;
    }

    console.take_in(Input::Resize(NARROW.0, NARROW.1))?;
    console.act(Action::Show(Tab::Timeline))?;
    console.draw_to(&root.join("assets/screen-80x24.svg"), NARROW)?;
    console.end().await
}

/// Puts another build of the plugin into the plugin directory, as an edit of its greeting would
/// make it.
fn build_otherwise(plugin_dir: &Path, store_dir: &Path) -> Result<(), Box<dyn Error>> {
    let path = plugin_dir.join(format!("{PLUGIN}{}", std::env::consts::DLL_SUFFIX));
    let mut library = std::fs::read(path)?;
    let source = artifact::inspect(&library)?.source;
    let [from, to] = GREETINGS;
    let place = library.windows(from.len()).position(|bytes| bytes == from);
    let place = place.ok_or("the plugin does not greet")?;
    library[place..place + to.len()].copy_from_slice(to);
    artifact::stamp(&mut library, source.as_ref())?;
    Store::open(store_dir)?.put(&library)?.install(plugin_dir)?;
    Ok(())
}

fn has_preview(state: &State) -> bool {
    matches!(&state.overlay, Some(Overlay::Preview(card)) if card.lines.is_some())
}

fn has_replayed(state: &State) -> bool {
    matches!(&state.overlay, Some(Overlay::Preview(card)) if matches!(card.replay, Replaying::Done(_)))
}

/// Whether the plugin has a version that was replaced and freed.
fn is_freed(state: &State) -> bool {
    let plugin = state.plugins.list().iter().find(|plugin| plugin.name == PLUGIN);
    let replaced = plugin.and_then(|plugin| plugin.versions.get(1));
    replaced.is_some_and(|version| version.state == VersionState::Freed)
}
