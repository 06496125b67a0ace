//! Another program.

/// A program that has the console's terminal too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}
