//! Why a program cannot do what it is asked to do.

use std::io;

use hotswap_protocol::{ErrorKind, WireError};

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The operation failed.
    Operation(WireError),
    /// It did not come about, as the answer that was printed says.
    Told,
    /// The same, with an exit code of its own.
    Ended(u8),
    /// Its answer could not be written.
    Output(io::Error),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::Operation(error)
    }
}

impl From<hotswap_fleet::FleetError> for Failure {
    fn from(error: hotswap_fleet::FleetError) -> Self {
        Self::Operation(WireError::new(ErrorKind::Fleet, error.to_string()))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<hotswap_build::BuildError> for Failure {
    fn from(error: hotswap_build::BuildError) -> Self {
        Self::Operation(WireError::new(ErrorKind::Build, error.to_string()))
    }
}
