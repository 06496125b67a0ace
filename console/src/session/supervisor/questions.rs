//! What is asked beside the jobs, without keeping the loop waiting.

use hotswap_protocol::{ErrorKind, InvokeResult, LiveSnapshot, VaultSnapshot, WireError};

use super::Supervisor;
use crate::operation::Operation;
use crate::session::event::SessionEvent;
use crate::session::store;

impl Supervisor {
    /// Asks the host.
    pub(super) fn ask(&self, operation: Operation) {
        let client = self.client.clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let no_host = || WireError::new(ErrorKind::NoHost, "no host is connected");
            let event = match &operation {
                Operation::Vault => SessionEvent::Vault(match client {
                    Some(client) => client.ask::<VaultSnapshot>(operation.request()).await,
                    None => Err(no_host()),
                }),
                Operation::Live => SessionEvent::Live(match client {
                    Some(client) => client.ask::<LiveSnapshot>(operation.request()).await,
                    None => Err(no_host()),
                }),
                _ => {
                    let answer = match client {
                        Some(client) => client.ask::<InvokeResult>(operation.request()).await,
                        None => Err(no_host()),
                    };
                    SessionEvent::Invoked { operation, answer }
                }
            };
            // The session is over when this fails.
            let _ = events.send(event).await;
        });
    }

    /// Looks what is stored of a plugin. Where is known only of a host that is a package.
    pub(super) fn list_builds(&self, plugin: String) {
        let Some(package) = self.package.clone() else { return };
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let builds = store::builds(&package, &plugin).map_err(|error| error.to_string());
            // The session is over when this fails.
            let _ = events.blocking_send(SessionEvent::StoredBuilds { plugin, builds });
        });
    }
}
