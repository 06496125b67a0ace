//! Models of the protocols that the engine stands on; see `tests/`.
