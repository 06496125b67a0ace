//! The keys that a person presses, without what the terminal sends by itself.
//!
//! A terminal sends its answers to questions among the keys. A slow terminal answers when nobody waits any more, and
//! answers to other programs come at any time. Crossterm does not know all answers: it takes the beginning of an
//! unknown one for Alt with a key, and the rest for typed keys. It also takes the first byte of a sequence for Esc if
//! the rest arrives a moment later, as over a slow line.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crossterm::event::{
    Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent,
    MouseEventKind,
};
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

/// The time in which the rest of a sequence arrives. Esc is reported after this time.
const REST: Duration = Duration::from_millis(30);
/// The time in which an answer that has begun continues.
const ANSWER_GOES_ON: Duration = Duration::from_millis(500);
/// The maximum length of an answer, in characters: as much as xterm allows for a text of the clipboard.
const LONGEST_ANSWER: usize = 1 << 20;
/// The maximum length of a sequence for a key or the mouse, in characters.
const LONGEST_SEQUENCE: usize = 32;

/// The events of the terminal: keys, the mouse, pasted text, its size.
pub struct Keyboard {
    events: EventStream,
    sequences: Sequences,
    /// The time when an incomplete sequence ends.
    until: Option<Instant>,
    ready: VecDeque<Event>,
}

impl Keyboard {
    /// Begins to read the terminal. Dropping the keyboard ends this.
    pub fn read() -> Self {
        Self {
            events: EventStream::new(),
            sequences: Sequences::default(),
            until: None,
            ready: VecDeque::new(),
        }
    }

    /// The next event; `None` once the terminal is gone. Cancel safe: no event is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<io::Result<Event>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let event = match self.until {
                None => self.events.next().await,
                Some(until) => match timeout_at(until, self.events.next()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.until = None;
                        self.ready.extend(self.sequences.end());
                        continue;
                    }
                },
            };
            match event {
                Some(Ok(event)) => self.ready.extend(self.sequences.take(event)),
                failed_or_gone => return failed_or_gone,
            }
            self.until = self.sequences.patience().map(|patience| Instant::now() + patience);
        }
    }
}

/// Joins the parts of sequences that crossterm took for keys.
#[derive(Default)]
struct Sequences {
    begun: Begun,
}

/// The beginning of a sequence; it may also be a key by itself.
#[derive(Default)]
enum Begun {
    #[default]
    Nothing,
    /// Esc, or the first byte of a sequence.
    Esc(KeyEvent),
    /// Alt with a key that begins an answer, or the first two bytes of an answer.
    Opening(KeyEvent),
    /// The text so far of a key's or the mouse's sequence, after `Esc [`.
    Sequence(String),
    /// An answer that has not ended: the number of its characters, and whether the last one was Esc.
    Answer { len: usize, after_esc: bool },
}

impl Sequences {
    /// The time to wait for more; `None` if nothing has begun.
    fn patience(&self) -> Option<Duration> {
        match self.begun {
            Begun::Nothing => None,
            Begun::Esc(_) | Begun::Opening(_) | Begun::Sequence(_) => Some(REST),
            Begun::Answer { .. } => Some(ANSWER_GOES_ON),
        }
    }

    /// Ends what has begun, because no more came: returns a key, and drops the rest of an answer.
    fn end(&mut self) -> Option<Event> {
        match std::mem::take(&mut self.begun) {
            Begun::Esc(key) | Begun::Opening(key) => Some(Event::Key(key)),
            Begun::Nothing | Begun::Sequence(_) | Begun::Answer { .. } => None,
        }
    }

    /// Takes an event, and returns the events that are complete now.
    fn take(&mut self, event: Event) -> Vec<Event> {
        let Event::Key(key) = event else { return vec![event] };
        if key.kind == KeyEventKind::Release {
            return vec![event];
        }
        match std::mem::take(&mut self.begun) {
            Begun::Nothing => self.begin(key),
            Begun::Esc(esc) => match key.code {
                KeyCode::Char('[') if key.modifiers.is_empty() => {
                    self.begun = Begun::Sequence(String::new());
                    Vec::new()
                }
                KeyCode::Char(']' | 'P' | '_' | '^') if is_plain(key) => {
                    let alt = key.modifiers | KeyModifiers::ALT;
                    self.begun = Begun::Opening(KeyEvent::new(key.code, alt));
                    Vec::new()
                }
                _ => [vec![Event::Key(esc)], self.begin(key)].concat(),
            },
            Begun::Opening(opening) => match key.code {
                KeyCode::Char(_) if is_plain(key) => {
                    self.begun = Begun::Answer { len: 1, after_esc: false };
                    Vec::new()
                }
                _ => [vec![Event::Key(opening)], self.begin(key)].concat(),
            },
            Begun::Sequence(mut text) => {
                match key.code {
                    KeyCode::Char(end @ ('A'..='Z' | 'a'..='z' | '~')) => {
                        return meant(&text, end).into_iter().collect();
                    }
                    KeyCode::Char(character) if text.len() < LONGEST_SEQUENCE => {
                        text.push(character);
                        self.begun = Begun::Sequence(text);
                    }
                    _ => {}
                }
                Vec::new()
            }
            Begun::Answer { len, after_esc } => {
                let ends = match key.code {
                    KeyCode::Char('g') => key.modifiers == KeyModifiers::CONTROL,
                    KeyCode::Char('\\') => after_esc || key.modifiers == KeyModifiers::ALT,
                    _ => false,
                };
                if !ends && len < LONGEST_ANSWER {
                    let after_esc = key.code == KeyCode::Esc;
                    self.begun = Begun::Answer { len: len + 1, after_esc };
                }
                Vec::new()
            }
        }
    }

    /// Takes a key when nothing has begun.
    fn begin(&mut self, key: KeyEvent) -> Vec<Event> {
        let is_alt = key.modifiers.difference(KeyModifiers::SHIFT) == KeyModifiers::ALT;
        self.begun = match key.code {
            KeyCode::Esc if key.modifiers.is_empty() => Begun::Esc(key),
            // The beginnings of an operating system command, a device control string, and two similar ones.
            KeyCode::Char(']' | 'P' | '_' | '^') if is_alt => Begun::Opening(key),
            _ => return vec![Event::Key(key)],
        };
        Vec::new()
    }
}

/// Whether the key has neither Alt nor Ctrl.
fn is_plain(key: KeyEvent) -> bool {
    key.modifiers.difference(KeyModifiers::SHIFT).is_empty()
}

/// The event of a sequence after `Esc [`: a key or the mouse; `None` for other reports of the terminal.
fn meant(text: &str, end: char) -> Option<Event> {
    if let Some(mouse) = text.strip_prefix('<') {
        return mouse_event(mouse, end);
    }
    let code = match (text, end) {
        ("", 'A') => KeyCode::Up,
        ("", 'B') => KeyCode::Down,
        ("", 'C') => KeyCode::Right,
        ("", 'D') => KeyCode::Left,
        ("", 'H') | ("1" | "7", '~') => KeyCode::Home,
        ("", 'F') | ("4" | "8", '~') => KeyCode::End,
        ("", 'Z') => return Some(Event::Key(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT))),
        ("2", '~') => KeyCode::Insert,
        ("3", '~') => KeyCode::Delete,
        ("5", '~') => KeyCode::PageUp,
        ("6", '~') => KeyCode::PageDown,
        _ => return None,
    };
    Some(Event::Key(code.into()))
}

/// The event of a click or the wheel. The text has the button, and column and row from 1; `M` means pressed.
fn mouse_event(text: &str, end: char) -> Option<Event> {
    let mut numbers = text.split(';').map(str::parse::<u16>);
    let mut next = || numbers.next()?.ok();
    let (button, column, row) = (next()?, next()?.checked_sub(1)?, next()?.checked_sub(1)?);
    let of = |button| match end {
        'M' => Some(MouseEventKind::Down(button)),
        'm' => Some(MouseEventKind::Up(button)),
        _ => None,
    };
    let kind = match button {
        0 => of(MouseButton::Left)?,
        1 => of(MouseButton::Middle)?,
        2 => of(MouseButton::Right)?,
        64 => MouseEventKind::ScrollUp,
        65 => MouseEventKind::ScrollDown,
        _ => return None,
    };
    Some(Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that crossterm makes of a text: a character after Esc is that character with Alt.
    fn keys(text: &str) -> Vec<Event> {
        let mut events = Vec::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            events.push(Event::Key(match character {
                '\x1b' => match characters.next_if(|next| *next != '\x1b') {
                    Some(next) => KeyEvent::new(KeyCode::Char(next), KeyModifiers::ALT),
                    None => KeyCode::Esc.into(),
                },
                '\x07' => KeyEvent::new(KeyCode::Char('g'), KeyModifiers::CONTROL),
                _ => KeyCode::Char(character).into(),
            }));
        }
        events
    }

    /// The result for events that follow each other at once, with nothing after them.
    fn events_of(events: Vec<Event>) -> Vec<Event> {
        let mut sequences = Sequences::default();
        let mut events: Vec<_> =
            events.into_iter().flat_map(|event| sequences.take(event)).collect();
        events.extend(sequences.end());
        events
    }

    #[test]
    fn typed_keys_are_passed_on_unchanged() {
        for typed in ["r", "q:", "\x1b", "\x1bq", "\x1b]", "\x1bP", "]11;r"] {
            assert_eq!(events_of(keys(typed)), keys(typed), "{typed:?}");
        }
        let esc_and_more = [keys("\x1b"), keys("q")].concat();
        assert_eq!(events_of(esc_and_more.clone()), esc_and_more);
    }

    #[test]
    fn answers_of_the_terminal_are_no_keys() {
        for answer in [
            "\x1b]11;rgb:1e1e/1e1e/2e2e\x07",
            "\x1b]11;rgb:ffff/ffff/ffff\x1b\\",
            "\x1b]4;7;rgb:aa/bb/cc\x1b\\",
            "\x1bP>|xterm(370)\x1b\\",
            "\x1b_Gi=1;OK\x1b\\",
        ] {
            let with_key = format!("{answer}r");
            assert_eq!(events_of(keys(&with_key)), keys("r"), "{answer:?}");
            // The end may never come.
            assert_eq!(events_of(keys(answer.trim_end_matches(['\x07', '\x1b', '\\']))), []);
        }
    }

    #[test]
    fn an_answer_may_come_in_parts() {
        let esc = || vec![Event::Key(KeyCode::Esc.into())];
        let begun = [esc(), keys("]11;rgb:0/0/0"), esc(), keys("\\r")].concat();
        assert_eq!(events_of(begun), keys("r"));
    }

    #[test]
    fn a_sequence_that_is_cut_after_its_first_byte_is_one_event() {
        let cut =
            |rest: &str| events_of([vec![Event::Key(KeyCode::Esc.into())], keys(rest)].concat());
        assert_eq!(cut("[A"), [Event::Key(KeyCode::Up.into())]);
        assert_eq!(cut("[6~r"), [vec![Event::Key(KeyCode::PageDown.into())], keys("r")].concat());
        let mouse = |kind, column, row| {
            Event::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE })
        };
        let clicked = MouseEventKind::Down(MouseButton::Left);
        assert_eq!(cut("[<0;10;5M"), [mouse(clicked, 9, 4)]);
        assert_eq!(cut("[<65;1;1M"), [mouse(MouseEventKind::ScrollDown, 0, 0)]);
        // An unknown sequence is not a key, however long it is.
        assert_eq!(cut("[?62;22c"), []);
        assert_eq!(cut("[<0;0;0M"), []);
        assert_eq!(cut(&format!("[{}", "1;".repeat(9))), []);
    }
}
