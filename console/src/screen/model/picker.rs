//! The choice of a host to attach to.

use hotswap_protocol::HostInfo;

use crate::screen::input::action::Motion;

/// The running hosts, and the selected one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picker {
    hosts: Vec<HostInfo>,
    selected: usize,
}

impl Picker {
    /// Takes the hosts that run now; true if the list changed. The selected host stays selected as long as it runs.
    pub fn update(&mut self, hosts: Vec<HostInfo>) -> bool {
        if hosts == self.hosts {
            return false;
        }
        let before = self.selected().map(|host| host.pid);
        let place = hosts.iter().position(|host| Some(host.pid) == before);
        self.selected = place.unwrap_or(self.selected).min(hosts.len().saturating_sub(1));
        self.hosts = hosts;
        true
    }

    /// The hosts.
    pub fn hosts(&self) -> &[HostInfo] {
        &self.hosts
    }

    /// The position of the selected host.
    pub fn selected_index(&self) -> usize {
        self.selected
    }

    /// The selected host.
    pub fn selected(&self) -> Option<&HostInfo> {
        self.hosts.get(self.selected)
    }

    /// Moves the selection.
    pub fn move_by(&mut self, motion: Motion, page: usize) {
        let to = super::plugins::step(motion, self.selected, self.hosts.len(), page);
        self.selected = to.unwrap_or(self.selected);
    }
}
