//! Other programs.

/// A program that uses the same terminal as the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}
