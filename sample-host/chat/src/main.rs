//! A chat server whose rooms are replaced while clients stay connected.
//!
//! The host owns the sockets, and the plugin `rooms` implements the chat. A client enters through an object that the
//! plugin exports, and passes an object of its own, through which the plugin shows it lines. After a reload each
//! client takes a seat with the new version, so the old version is freed. The DataBag keeps what was said.
//!
//! Try: `cargo run -p hotswap-console -- ./sample-host/chat`, then twice `nc 127.0.0.1 7007` in other terminals.
//! Change `shown` in `sample-host/chat/rooms/src/lib.rs`, and save: nobody is disconnected.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
};

use clap::Parser;
use eyre::Result;
use hotswap_engine::{Engine, EngineError, protocol::Event};
use sample_api::{Client, Rooms, Seat};

/// The largest number of clients at once.
const MOST_CLIENTS: usize = 64;

/// A chat server whose rooms are replaced while clients stay connected.
#[derive(Debug, Parser)]
struct Arguments {
    /// The port on this machine that it listens on; 0 chooses one
    #[arg(long, default_value_t = 7007)]
    port: u16,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let engine = Engine::from_env().build()?;
    // A server runs without its rooms too: the next reload may load what failed.
    if let Err(error) = engine.load(()) {
        eprintln!("{error}");
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port))?;
    println!("listening on {}", listener.local_addr()?);
    let connections = Arc::new(Connections::default());
    let (events, moved) = (engine.subscribe(), connections.clone());
    let reloads = engine.clone();
    thread::spawn(move || {
        for event in events {
            if matches!(event, Event::ReloadFinished { .. }) {
                moved.all().iter().for_each(|connection| connection.take_seat(&reloads, true));
            }
        }
    });
    for stream in listener.incoming() {
        let (engine, connection) = (engine.clone(), Arc::new(Connection::new(stream?)));
        if !connections.add(&connection) {
            connection.show_line("* the chat is full");
            continue;
        }
        thread::spawn(move || connection.serve(&engine));
    }
    Ok(())
}

/// The clients that are connected.
#[derive(Default)]
struct Connections(Mutex<Vec<Weak<Connection>>>);

impl Connections {
    /// Adds a connection; false if there is no room.
    fn add(&self, connection: &Arc<Connection>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        let has_room = all.len() < MOST_CLIENTS;
        if has_room {
            all.push(Arc::downgrade(connection));
        }
        has_room
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// A client's connection, and its seat in the version of the plugin that serves.
struct Connection {
    stream: TcpStream,
    name: Mutex<Option<String>>,
    seat: Mutex<Option<Arc<dyn Seat>>>,
}

/// The client's object, through which the plugin shows it lines.
struct Screen(Weak<Connection>);

impl Client for Screen {
    fn show(&self, line: String) {
        if let Some(connection) = self.0.upgrade() {
            connection.show_line(&line);
        }
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, name: Mutex::default(), seat: Mutex::default() }
    }

    /// Shows a line. An error is ignored here: the thread that reads the client's lines notices that it is gone.
    fn show_line(&self, line: &str) {
        let _ = (&self.stream).write_all(format!("{line}\n").as_bytes());
    }

    /// Reads the client's lines: the first one is its name, and it says the others.
    fn serve(self: &Arc<Self>, engine: &Engine) {
        self.show_line("* your name?");
        let mut lines = BufReader::new(&self.stream).lines().map_while(std::io::Result::ok);
        let Some(name) = lines.next().map(|name| name.trim().to_owned()) else { return };
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        self.take_seat(engine, false);
        for line in lines {
            let seat = self.seat.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match seat {
                Some(seat) => seat.say(line),
                None => self.show_line("* there is no room to say it in"),
            }
        }
        *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Takes a seat with the version that serves, instead of the one before.
    fn take_seat(self: &Arc<Self>, engine: &Engine, is_back: bool) {
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(name) = name else { return };
        let taken = rooms(engine).map(|rooms| {
            rooms.map(|rooms| rooms.enter(name, Box::new(Screen(Arc::downgrade(self))), is_back))
        });
        match taken {
            Ok(Some(seat)) => {
                *self.seat.lock().unwrap_or_else(PoisonError::into_inner) = Some(seat.into());
            }
            Ok(None) => self.show_line("* the plugin has no rooms"),
            Err(error) => self.show_line(&format!("* {error}")),
        }
    }
}

/// The object that the plugin exports.
fn rooms(engine: &Engine) -> Result<Option<hotswap_engine::Leased<dyn Rooms>>, EngineError> {
    engine.plugin("rooms")?.export::<dyn Rooms>()
}
