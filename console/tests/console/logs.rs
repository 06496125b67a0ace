//! The log: keeping, finding, marking, copying, writing and drawing lines.

use hotswap_console::screen::model::Place;
use hotswap_console::screen::update::{Effect, Event, Input, update};
use hotswap_console::screen::view::{self, Theme};
use hotswap_console::session::{LogLine, OutputStream};
use hotswap_protocol::{LogLevel, LogRecord};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use ratatui::style::Color;

use crate::support::console::Console;
use crate::support::samples;

fn output_line(text: &str) -> LogLine {
    LogLine::Output { stream: OutputStream::Stdout, text: text.into() }
}

fn log_of(plugin: &str, version: u32, seq: u64, message: &str) -> LogLine {
    let mut record = samples::record(seq, LogLevel::Info, message);
    record.plugin = Some(plugin.into());
    record.version = Some(version);
    record.target = format!("{plugin}::inner");
    LogLine::Log(record)
}

#[test]
fn the_source_of_a_line_is_opened() {
    let mut console = Console::connected(120, 36);
    let mut record = samples::record(1, LogLevel::Error, "thread `worker` panicked");
    (record.file, record.line) = (Some("plugins/world/src/lib.rs".into()), Some(12));
    console.logs(vec![LogLine::Log(record), output_line("of nobody knows where")]);
    console.press("3");
    assert_eq!(console.press("o"), []);
    assert!(console.screen().contains("it is not known where the sources write this line"));
    let file = "plugins/world/src/lib.rs".into();
    let place = Place { file, row: Some(12), column: None };
    assert_eq!(console.press("Up o"), [Effect::Edit(place)]);
}

/// A console with lines of two plugins in two versions, of the host, and on stdout.
fn with_mixed_lines(width: u16, height: u16) -> Console {
    let mut console = Console::connected(width, height);
    console.logs(vec![
        log_of("world", 3, 1, "the world turns"),
        log_of("world", 30, 2, "another world"),
        log_of("cat", 1, 3, "the cat purrs"),
        LogLine::Log(samples::record(4, LogLevel::Warn, "slow request")),
        output_line("\u{1b}[31mred\u{1b}[0m and plain\u{1b}[2J"),
    ]);
    console.press("3");
    console
}

/// The texts of the log lines that the filter shows.
fn shown_lines(console: &Console) -> Vec<String> {
    let logs = &console.state.logs;
    let rows = (0..logs.passing()).filter_map(|position| logs.row(position));
    rows.filter(|row| !row.origin.is_marker()).map(|row| row.text.clone()).collect()
}

fn filter_writers(console: &mut Console, text: &str) -> Vec<String> {
    console.press("t");
    for _ in 0..console.state.logs.writer_filter().len() {
        console.press("Backspace");
    }
    console.write(text);
    console.press("Enter");
    shown_lines(console)
}

#[test]
fn lines_are_filtered_by_plugin_version_target_and_stream() {
    let mut console = with_mixed_lines(120, 36);
    let of_both_worlds = ["the world turns", "another world"];
    assert_eq!(filter_writers(&mut console, "world"), of_both_worlds);
    assert_eq!(filter_writers(&mut console, "world@3"), ["the world turns"]);
    assert_eq!(filter_writers(&mut console, "World@v30 cat"), ["another world", "the cat purrs"]);
    assert_eq!(filter_writers(&mut console, "::http"), ["slow request"]);
    assert_eq!(filter_writers(&mut console, "stdout"), ["red and plain"]);
    assert_eq!(filter_writers(&mut console, "-cat -http -stdout"), of_both_worlds);
    console.logs(vec![log_of("cat", 1, 6, "purrs again"), log_of("world", 3, 7, "turns again")]);
    assert_eq!(
        shown_lines(&console).last().unwrap(),
        "turns again",
        "the filter also applies to new lines"
    );
    console.press("Esc");
    assert_eq!(shown_lines(&console).len(), 7);
}

#[test]
fn a_writer_in_the_filter_is_completed_from_the_writers_of_lines() {
    let mut console = with_mixed_lines(120, 36);
    console.press("t");
    console.write("wor");
    console.press("Tab");
    assert_eq!(console.state.logs.writer_filter(), "world@v3");
    console.press("Tab");
    assert_eq!(console.state.logs.writer_filter(), "world@v30");
    assert_eq!(shown_lines(&console), ["another world"]);
    console.press("Esc");
    assert_eq!(console.state.logs.writer_filter(), "");
}

#[test]
fn a_filter_can_be_inverted_and_a_search_keeps_other_lines_visible() {
    let mut console = with_mixed_lines(120, 36);
    console.press("3 /");
    console.write("world");
    console.press("Enter");
    assert_eq!(shown_lines(&console), ["the world turns", "another world"]);
    console.press("!");
    assert_eq!(shown_lines(&console), ["the cat purrs", "slow request", "red and plain"]);
    console.press("Esc s");
    console.write("world");
    console.press("Enter");
    assert_eq!(shown_lines(&console).len(), 5);
    let selected = |console: &Console| console.state.logs.selected_text().unwrap().0;
    let reported = |console: &Console| console.state.notice.as_ref().unwrap().text.clone();
    assert!(selected(&console).ends_with("another world"), "Enter goes to the nearest match");
    assert_eq!(reported(&console), "2 of 2");
    console.press("N");
    assert!(selected(&console).ends_with("the world turns"));
    assert_eq!(reported(&console), "1 of 2");
    console.press("N");
    assert!(
        selected(&console).ends_with("another world"),
        "before the first match, the search continues at the last"
    );
    console.press("n");
    assert!(selected(&console).ends_with("the world turns"));
    console.press("3 / Tab");
    assert_eq!(shown_lines(&console).len(), 5, "Tab also shows the lines that do not match");
}

#[test]
fn a_filter_keeps_the_selected_line_or_the_next_that_passes() {
    let mut console = with_mixed_lines(120, 36);
    console.press("g g j");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("the world turns"));
    console.press("3 /");
    console.write("the|slow");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("the world turns"));
    console.press("Esc 3 /");
    console.write("slow");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("slow request"));
    console.press("Esc");
    assert!(
        !console.state.logs.follows(),
        "the log stays where the user reads, and does not follow new lines"
    );
}

#[test]
fn keys_go_through_marked_lines_and_wrap_around() {
    let mut console = with_mixed_lines(120, 36);
    assert_eq!(console.press("M"), []);
    assert!(console.state.notice.as_ref().unwrap().text.contains("no line is marked"));
    console.press("g g j m j j m");
    let selected = |console: &Console| console.state.logs.selected_text().unwrap().0;
    console.press("G M");
    assert!(selected(&console).ends_with("the world turns"));
    console.press("M");
    assert!(selected(&console).ends_with("the cat purrs"));
    console.press("m M");
    assert!(selected(&console).ends_with("the world turns"), "the line is not marked any more");
}

#[test]
fn several_lines_are_selected_and_copied_without_borders_and_colours() {
    let mut console = with_mixed_lines(120, 36);
    console.press("g g j j v j");
    let copied = "12:00:02 INFO world@v30 another world\n12:00:03 INFO cat@v1 the cat purrs";
    assert_eq!(console.press("y"), [Effect::Copy(copied.into())]);
    assert!(!console.state.logs.has_selection());
    console.press("G k");
    let Effect::Copy(line) = &console.press("y")[0] else { panic!() };
    assert!(line.ends_with("red and plain") || line.ends_with("slow request"), "{line}");
}

#[test]
fn the_filtered_log_is_written_to_a_new_file() {
    let mut console = with_mixed_lines(120, 36);
    filter_writers(&mut console, "world@3");
    console.press("3 /");
    console.write("turns");
    console.press("Enter");
    let text = "12:00:01 INFO world@v3 the world turns\n".to_owned();
    let name = "sample-host-120500".to_owned();
    assert_eq!(console.press("X"), [Effect::Export { name, text }]);

    let directory = tempfile::tempdir().unwrap();
    let export =
        |text| hotswap_console::screen::writer::export(directory.path(), "log", text).unwrap();
    let (first, second) = (export("one"), export("two"));
    assert_ne!(first, second, "no file is overwritten");
    assert_eq!(std::fs::read_to_string(first).unwrap(), "one");
}

#[test]
fn a_text_that_is_too_large_for_the_clipboard_is_not_copied() {
    let mut console = Console::connected(120, 36);
    let line = "x".repeat(1024);
    console.logs((0..1200).map(|_| output_line(&line)).collect());
    assert_eq!(console.press("3 Y"), []);
    assert!(console.state.notice.as_ref().unwrap().text.contains("X writes them to a file"));
}

#[test]
fn lost_lines_are_counted_where_they_were_lost() {
    let mut console = Console::connected(120, 36);
    console.logs(vec![output_line("before"), LogLine::Dropped { count: 1_000 }]);
    console.logs(vec![LogLine::Dropped { count: 234 }, output_line("after")]);
    assert_eq!(console.state.logs.dropped, 1_234);
    let screen = console.screen();
    let at = |text: &str| screen.lines().position(|line| line.contains(text));
    assert!(at("before") < at("1,234 lines dropped") && at("1,234 lines dropped") < at("after"));
    assert_eq!(screen.matches("lines dropped").count(), 1);
}

#[test]
fn a_changed_filter_checks_the_newest_lines_first_and_lets_keys_interrupt_it() {
    let mut console = Console::connected(120, 36);
    let capacity = hotswap_console::screen::model::logs::CAPACITY;
    for chunk in 0..capacity / 1000 {
        let lines = (0..1000).map(|line| output_line(&format!("line {chunk} {line}"))).collect();
        console.logs(lines);
    }
    let state = &mut console.state;
    let press = |state: &mut _, input| update(state, Event { at_ms: samples::NOON_MS, input });
    state.logs.set_pattern("line .* 7$");
    assert!(state.logs.is_scanning());
    let seen = state.logs.passing();
    assert!(seen > 0 && seen < 100, "{seen} so far");
    let newest = state.logs.row(seen - 1).unwrap().text.clone();
    assert_eq!(newest, "line 99 7");
    // New lines are appended at the end, and no line is found twice.
    press(state, Input::Logs(vec![output_line("line 100 7")]));
    while state.logs.is_scanning() {
        press(state, Input::Scan);
    }
    assert_eq!(state.logs.passing(), 101);
    let positions = 0..state.logs.passing();
    let seqs: Vec<u64> = positions.map(|it| state.logs.row(it).unwrap().seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b));
}

#[test]
fn the_hosts_own_colours_are_kept_and_its_other_sequences_are_not() {
    let console = with_mixed_lines(120, 36);
    let mut terminal = Terminal::new(TestBackend::new(120, 36)).unwrap();
    let theme = Theme::with_colours();
    terminal.draw(|frame| view::draw(frame, &console.state, &theme)).unwrap();
    let buffer = terminal.backend().buffer();
    let text = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
    let red = buffer.content().windows(7).find(|it| text(it) == "red and");
    let red = red.unwrap();
    assert_eq!((red[0].fg, red[4].fg), (Color::Red, Color::Reset));
    assert!(console.screen().contains("red and plain"));
    assert_eq!(console.screen().matches('\u{1b}').count(), 0);
}

#[test]
fn the_screens_of_a_filtered_log() {
    let screens = [(120, 36), (80, 24), (60, 15)].map(|(width, height)| {
        let mut console = with_mixed_lines(width, height);
        console.logs(vec![LogLine::Dropped { count: 12 }]);
        console.press("l l t");
        console.write("world stdout");
        console.press("Enter k m / Tab");
        console.write("an");
        let mut theme = Theme::without_colours();
        theme.is_ascii = width == 60;
        format!("{width}×{height}\n{}\n", console.screen_in(&theme))
    });
    insta::assert_snapshot!(screens.join("\n"));
}

#[test]
fn the_header_shows_how_far_the_log_lags() {
    let mut console = Console::connected(120, 36);
    let written = |at_ms| {
        let record = samples::record(1, LogLevel::Info, "listening");
        LogLine::Log(LogRecord { at_ms, ..record })
    };
    let connected_ms = console.now_ms;
    console.logs(vec![written(connected_ms - 60_000)]);
    assert!(!console.screen().contains("lag"), "a line from before the connection has no lag");
    console.now_ms += 5_000;
    console.logs(vec![written(connected_ms + 4_998)]);
    assert!(console.screen().contains("│ log 2 ms behind"), "{}", console.screen());
    console.logs(vec![written(connected_ms + 2_500)]);
    assert!(console.screen().contains("│ log 2.5 s behind"), "{}", console.screen());
}

#[test]
fn a_long_filter_does_not_hide_the_counts() {
    let mut console = with_mixed_lines(120, 36);
    console.press("3 /");
    console.write(&"turns ".repeat(30));
    console.press("Enter");
    let screen = console.screen();
    assert!(screen.contains("…  0 of 6 "), "{screen}");
}

#[test]
fn lines_of_replaced_versions_are_dimmed_and_long_ones_wrap_at_words() {
    let mut console = Console::connected(80, 24);
    let line = "a line that is longer than the panel is wide, so it takes two rows";
    console.logs(vec![log_of("world", 2, 1, "of the version before"), log_of("world", 3, 2, line)]);
    console.press("3 W");
    let screen = console.screen();
    assert!(
        screen.lines().any(|row| row.trim_end_matches(['│', ' ']).ends_with("wide, so")),
        "{screen}"
    );
    assert!(console.is_dim("of the version before"));
    assert!(!console.is_dim("a line that is longer"));
}

#[test]
fn a_line_that_is_taller_than_the_panel_can_be_scrolled() {
    let mut console = Console::connected(80, 24);
    let long: Vec<String> = (0..60).map(|number| format!("part-number-{number:02}")).collect();
    let lines = ["before", &long.join(" "), "after"];
    console.logs(
        lines.into_iter().zip(1..).map(|(line, seq)| log_of("world", 3, seq, line)).collect(),
    );
    let sees =
        |console: &Console, part: u32| console.screen().contains(&format!("part-number-{part:02}"));
    console.press("3 W k");
    assert!(
        sees(&console, 59) && !sees(&console, 0),
        "a long line that is entered from below shows its end"
    );
    let mut presses = 0;
    while !sees(&console, 0) {
        console.press("k");
        presses += 1;
        assert!(presses < 60, "{}", console.screen());
    }
    assert!(!sees(&console, 59), "the end of the line is scrolled out");
    assert!(console.state.logs.selected_text().unwrap().0.contains("part-number-30"));
    console.press("k");
    assert!(console.state.logs.selected_text().unwrap().0.ends_with("before"));
    console.press("j");
    assert!(sees(&console, 0), "a long line that is entered from above shows its beginning");
    (0..60).for_each(|_| drop(console.press("j")));
    assert!(console.state.logs.follows(), "{}", console.screen());
}
