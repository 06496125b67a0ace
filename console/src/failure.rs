//! The failures of a program.

use std::io;

use hotswap_protocol::{ErrorKind, WireError};

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The operation failed.
    Operation(WireError),
    /// The operation failed, as the printed answer says.
    Reported,
    /// The same, with another exit code.
    Ended(u8),
    /// The answer could not be written.
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
