//! `hotswap-console attach` without a host: takes the only running host, or lets a person pick one.

use std::time::Duration;

use crossterm::event::{Event as TerminalEvent, KeyEventKind};
use tokio::time::{MissedTickBehavior, interval};

use crate::cli;
use crate::failure::Failure;
use crate::host::socket::{self, HostChoice};
use crate::screen::config::Config;
use crate::screen::input::action::{Action, Scope};
use crate::screen::input::key::Key;
use crate::screen::input::keymap::Found;
use crate::screen::keyboard::Keyboard;
use crate::screen::model::picker::Picker;
use crate::screen::terminal::{self, Screen};
use crate::screen::view;
use crate::signals::Termination;
use hotswap_protocol::clock::now_ms;

/// The time between two searches for running hosts.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The host to attach to; `None` if nobody picked one. If there are several and no screen, lists them instead.
pub(crate) async fn pick(
    config: &Config,
    has_screen: bool,
    client_name: &str,
) -> Result<Option<HostChoice>, Failure> {
    let hosts = socket::hosts(client_name).await;
    match hosts.as_slice() {
        [] => Err(socket::no_host_runs().into()),
        [host] => Ok(Some(HostChoice::Socket(host.socket.clone()))),
        _ if !has_screen => {
            cli::list_hosts().await?;
            Ok(None)
        }
        _ => {
            let mut picker = Picker::default();
            picker.update(hosts);
            let picked = choose(&mut picker, config, client_name).await?;
            Ok(picked
                .then(|| picker.selected())
                .flatten()
                .map(|host| HostChoice::Socket(host.socket.clone())))
        }
    }
}

/// Shows the hosts until one is picked; false if the person leaves.
async fn choose(picker: &mut Picker, config: &Config, client_name: &str) -> std::io::Result<bool> {
    let mut termination = Termination::listen()?;
    let theme = *config.themes.of(config.themes.start().unwrap_or_else(terminal::look));
    let mut screen = Screen::take()?;
    let mut keyboard = Keyboard::read();
    let mut look = interval(POLL_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(|frame| view::draw_picker(frame, picker, now_ms(), &theme))?;
        loop {
            let is_new = tokio::select! {
                event = keyboard.next() => match event {
                    Some(Ok(TerminalEvent::Key(key))) if key.kind != KeyEventKind::Release => {
                        match asked(config, key.into()) {
                            Some(Action::Details) => return Ok(picker.selected().is_some()),
                            Some(Action::Quit | Action::Back) => return Ok(false),
                            Some(Action::Move(motion)) => {
                                picker.move_by(motion, screen.size()?.1.into());
                                true
                            }
                            _ => false,
                        }
                    }
                    Some(Ok(event)) => matches!(event, TerminalEvent::Resize(..)),
                    Some(Err(_)) | None => return Ok(false),
                },
                _ = termination.recv() => return Ok(false),
                _ = look.tick() => picker.update(socket::hosts(client_name).await),
            };
            if is_new {
                break;
            }
        }
    }
}

fn asked(config: &Config, key: Key) -> Option<Action> {
    if key == Key::INTERRUPT {
        return Some(Action::Quit);
    }
    match config.keymap.find(&[key], &[Scope::Anywhere]) {
        Found::Action(action) => Some(action),
        _ => None,
    }
}
