//! The plugin `rooms`: what the chat does with each line. Change it while clients are connected, and save.

use std::sync::{Arc, Mutex, PoisonError};

use hotswap_plugin::prelude::*;
use sample_api::{Client, Rooms, Seat};

/// The number of earlier lines that a new client is shown.
const SHOWN: usize = 5;

/// The DataBag's key for the lines so far. A new version reads them there.
const HISTORY: &str = "history";

/// The chat.
#[derive(Default)]
struct Chat {
    room: Arc<Room>,
}

#[plugin]
impl Plugin for Chat {
    fn export(&self) -> Result<Export> {
        Ok(Export::new::<dyn Rooms, _>(Door(self.room.clone())))
    }

    fn on_init(&self, vault: &Vault) -> Result<()> {
        vault.data_bag().carry(HISTORY, Vec::<String>::new)?;
        *self.room.vault.lock().unwrap_or_else(PoisonError::into_inner) = Some(vault.clone());
        Ok(())
    }
}

/// The text that clients are shown for a line.
fn chat_line(name: &str, line: &str) -> String {
    format!("{name}: {line}")
}

/// The clients in the chat.
#[derive(Default)]
struct Room {
    places: Mutex<Vec<Arc<Place>>>,
    vault: Mutex<Option<Vault>>,
}

/// A client in the chat.
struct Place {
    name: String,
    client: Box<dyn Client>,
}

impl Room {
    fn places(&self) -> Vec<Arc<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show_all(&self, line: &str) {
        self.places().iter().for_each(|place| place.client.show(line.to_owned()));
    }

    fn with_history<R>(&self, f: impl FnOnce(&mut Vec<String>) -> R) -> Option<R> {
        let vault = self.vault.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        vault.data_bag().update(HISTORY, Vec::new, f).ok()
    }
}

/// The exported object.
struct Door(Arc<Room>);

impl Rooms for Door {
    fn enter(&self, name: String, client: Box<dyn Client>, is_back: bool) -> Box<dyn Seat> {
        let place = Arc::new(Place { name, client });
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner).push(place.clone());
        if !is_back {
            let last = self.0.with_history(|lines| {
                lines.iter().skip(lines.len().saturating_sub(SHOWN)).cloned().collect::<Vec<_>>()
            });
            last.into_iter().flatten().for_each(|line| place.client.show(line));
            self.0.show_all(&format!("* {} is here", place.name));
        }
        Box::new(At { room: self.0.clone(), place })
    }
}

/// A client's seat. Dropping it leaves the chat.
struct At {
    room: Arc<Room>,
    place: Arc<Place>,
}

impl Seat for At {
    fn say(&self, line: String) {
        if line == "/who" {
            let here: Vec<_> = self.room.places().iter().map(|place| place.name.clone()).collect();
            return self.place.client.show(format!("* here: {}", here.join(", ")));
        }
        let line = chat_line(&self.place.name, &line);
        self.room.with_history(|lines| lines.push(line.clone()));
        self.room.show_all(&line);
    }
}

impl Drop for At {
    fn drop(&mut self) {
        let mut here = self.room.places.lock().unwrap_or_else(PoisonError::into_inner);
        here.retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}
