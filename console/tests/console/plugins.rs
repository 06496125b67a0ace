//! The plugins panel: how often each is called, and what is worth a new screen.

use hotswap_console::screen::update::Effect;
use hotswap_console::session::SessionEvent;
use hotswap_protocol::{Snapshot, VersionState};

use crate::support::console::Console;
use crate::support::samples;

fn with_calls(calls: u64) -> Snapshot {
    let mut snapshot = samples::snapshot(4121);
    snapshot.plugins[0].versions[0].calls = calls;
    snapshot.plugins[0].functions[0].calls = calls;
    snapshot
}

/// The host's state a second later.
fn a_second_later(console: &mut Console, snapshot: Snapshot) -> bool {
    console.now_ms += 1_000;
    let event = SessionEvent::Snapshot(Box::new(snapshot));
    console.session(event).contains(&Effect::Draw)
}

fn row_of_world(console: &Console) -> String {
    let screen = console.screen();
    let row = screen.lines().find(|line| line.contains("● world")).unwrap();
    row.chars().take(38).collect()
}

#[test]
fn the_rate_of_calls_is_drawn_as_a_sparkline_that_moves_on() {
    let mut console = Console::connected(120, 36);
    for calls in [1_234, 1_234, 1_244, 1_274, 1_354, 1_354] {
        a_second_later(&mut console, with_calls(calls));
    }
    assert_eq!(row_of_world(&console), "│● world  v3  active       ▁▃█   1.4k│");
    for _ in 0..8 {
        a_second_later(&mut console, with_calls(1_354));
    }
    assert_eq!(row_of_world(&console), "│● world  v3  active             1.4k│");
}

#[test]
fn what_is_not_to_be_seen_is_not_drawn() {
    let mut console = Console::connected(120, 36);
    a_second_later(&mut console, with_calls(1_234));
    assert!(a_second_later(&mut console, with_calls(1_235)), "the sparkline is new");
    for _ in 0..8 {
        a_second_later(&mut console, with_calls(1_235));
    }
    assert!(!a_second_later(&mut console, with_calls(1_235)));
    // Between two samples 1.2k stays 1.2k.
    console.now_ms += 100;
    let event = SessionEvent::Snapshot(Box::new(with_calls(1_236)));
    assert_eq!(console.session(event), []);
    console.now_ms += 100;
    let event = SessionEvent::Snapshot(Box::new(with_calls(1_300)));
    assert_eq!(console.session(event), [Effect::Draw]);
}

#[test]
fn a_new_version_counts_anew() {
    let mut console = Console::connected(120, 36);
    a_second_later(&mut console, with_calls(1_234));
    let mut snapshot = with_calls(1_234);
    let mut newest = samples::version(4, VersionState::Active, "active");
    newest.calls = 5;
    snapshot.plugins[0].versions[0].state = VersionState::Retired;
    snapshot.plugins[0].versions.insert(0, newest);
    a_second_later(&mut console, snapshot);
    assert!(row_of_world(&console).contains('█'), "{}", row_of_world(&console));
}
