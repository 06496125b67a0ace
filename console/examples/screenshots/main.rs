//! Makes the pictures of the README from a real run of the sample host:
//!
//! ```text
//! cargo run -p hotswap-console --example screenshots
//! ```
//!
//! It builds and starts the host, calls a function, reloads a plugin from another build of the
//! same source, and draws what the console shows then to `assets/`.

mod svg;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hotswap_build::{
    BuildError, BuildOptions, Built, Cancel, HostPackage, PluginPackage, build_plugin,
};
use hotswap_console::action::{Action, Motion, Panel};
use hotswap_console::operation::Operation;
use hotswap_console::probe::{self, Prober};
use hotswap_console::session::{self, Options, Order, Session, SessionEvent, Target};
use hotswap_console::state::{State, Tab};
use hotswap_console::update::{self, Effect, Input};
use hotswap_console::view::{self, Theme};
use hotswap_protocol::{Event, VersionState};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const PLUGIN: &str = "world";
const WIDE: (u16, u16) = (120, 36);
const NARROW: (u16, u16) = (80, 24);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == probe::COMMAND) {
        let files: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
        return Ok(probe::main(&files)?);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let host = root.join("sample-host");
    let (another_build, plugin_dir) = build_otherwise(&host).await?;
    let mut console = Console::start(&host);
    console.until("the host's plugins", |state| state.plugins.list().len() >= 6).await?;

    console.act(Action::Move(Motion::Last));
    console.act(Action::Invoke);
    for (name, times) in [("Grace", "1"), ("Ada", "2")] {
        console.fill_in(&[name, times]);
        console.submit().await?;
    }
    another_build.install(&plugin_dir)?;
    console.order(Order::Operate(Operation::Reload));
    console.until("the old version freed", is_freed).await?;
    console.submit().await?;
    console.draw_to(&root.join("assets/screen-120x36.svg"), WIDE)?;

    console.press(KeyCode::Esc);
    console.act(Action::Show(Tab::Timeline));
    console.draw_to(&root.join("assets/screen-80x24.svg"), NARROW)?;
    console.end().await
}

/// A build of the plugin that differs from the one that the session makes of the same source:
/// optimized, it has another build id. Gives the host's plugin directory too.
async fn build_otherwise(host: &Path) -> Result<(Built, PathBuf), Box<dyn Error>> {
    let host = host.to_owned();
    let building = tokio::task::spawn_blocking(move || {
        let package = HostPackage::open(&host)?;
        let of_plugin = |plugin: &&PluginPackage| plugin.name == PLUGIN;
        let plugin = package.plugins.iter().find(of_plugin).expect("a plugin of the sample host");
        let options = BuildOptions { release: true, ..BuildOptions::default() };
        let built = build_plugin(plugin, &options, &Cancel::default(), &mut |_| {})?;
        Ok::<_, BuildError>((built, package.plugin_dir))
    });
    Ok(building.await??)
}

/// Whether the plugin has a version that was replaced and freed.
fn is_freed(state: &State) -> bool {
    let plugin = state.plugins.list().iter().find(|plugin| plugin.name == PLUGIN);
    let replaced = plugin.and_then(|plugin| plugin.versions.get(1));
    replaced.is_some_and(|version| version.state == VersionState::Freed)
}

/// The console without a terminal.
struct Console {
    state: State,
    session: Session,
}

impl Console {
    fn start(host: &Path) -> Self {
        let session = session::start(Options {
            target: Target::Package(host.to_owned()),
            plugin_dir: None,
            host_arguments: Vec::new(),
            watch: true,
            client_name: "screenshots",
            prober: Prober::this_program(),
        });
        Self { state: State::new(WIDE), session }
    }

    /// Takes in what happens until the state is as wanted.
    async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&State) -> bool,
    ) -> Result<(), Box<dyn Error>> {
        while !wanted(&self.state) {
            let input = tokio::select! {
                event = self.session.events.recv() => match event {
                    Some(SessionEvent::Ended { error }) => {
                        return Err(format!("the session ended before {what}: {error:?}").into());
                    }
                    Some(SessionEvent::Engine(Event::ReloadFailed { error, .. })) => {
                        return Err(error.into());
                    }
                    Some(event) => Input::Session(event),
                    None => return Err(format!("the session stopped before {what}").into()),
                },
                Some(line) = self.session.logs.recv() => Input::Logs(vec![line]),
            };
            self.take_in(input);
        }
        Ok(())
    }

    fn take_in(&mut self, input: Input) {
        let effects = update::update(&mut self.state, update::Event { at_ms: now_ms(), input });
        self.obey(effects);
    }

    fn act(&mut self, action: Action) {
        let effects = update::act(&mut self.state, action);
        self.obey(effects);
    }

    fn obey(&self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Order(order) = effect {
                self.order(order);
            }
        }
    }

    fn order(&self, order: Order) {
        // Only a session that is over takes none, and then nothing that is waited for comes.
        let _ = self.session.orders.try_send(order);
    }

    fn press(&mut self, code: KeyCode) {
        self.take_in(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }

    /// Types these texts into the fields of the form.
    fn fill_in(&mut self, texts: &[&str]) {
        self.state.focus = Panel::Tabs;
        for text in texts {
            let field = self.state.functions.form.as_mut().and_then(|form| form.focused_input());
            if let Some(field) = field {
                field.reset();
            }
            for letter in text.chars() {
                self.press(KeyCode::Char(letter));
            }
            self.press(KeyCode::Tab);
        }
    }

    /// Calls what the form says, and waits for the answer.
    async fn submit(&mut self) -> Result<(), Box<dyn Error>> {
        self.press(KeyCode::Enter);
        self.until("an answer", |state| !state.functions.has_running_calls()).await
    }

    fn draw_to(&mut self, path: &Path, (width, height): (u16, u16)) -> Result<(), Box<dyn Error>> {
        self.take_in(Input::Resize(width, height));
        let mut terminal = Terminal::new(TestBackend::new(width, height))?;
        terminal.draw(|frame| view::draw(frame, &self.state, &Theme::with_colours()))?;
        std::fs::write(path, svg::picture(terminal.backend().buffer()))?;
        println!("{}", path.display());
        Ok(())
    }

    async fn end(mut self) -> Result<(), Box<dyn Error>> {
        self.order(Order::End);
        while let Some(event) = self.session.events.recv().await {
            if let SessionEvent::Ended { error: Some(error) } = event {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
