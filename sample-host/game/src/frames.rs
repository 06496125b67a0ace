//! The durations of frames.

use std::{fmt, time::Duration};

/// The number of frames that count as those around a reload. The reload is published before the first of them.
const AROUND_RELOAD: u64 = 10;

/// The durations of the frames.
#[derive(Default)]
pub struct Frames {
    count: u64,
    longest: Duration,
    total: Duration,
    /// The number of the first frame after the last reload, and the longest of those around it.
    reload: Option<(u64, Duration)>,
}

impl Frames {
    /// The number of frames.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Notes that the next frame is the first after a reload.
    pub fn reloaded(&mut self) {
        self.reload = Some((self.count, Duration::ZERO));
    }

    /// Adds a frame.
    pub fn add(&mut self, took: Duration) {
        if let Some((first, longest)) = &mut self.reload
            && self.count - *first < AROUND_RELOAD
        {
            *longest = (*longest).max(took);
        }
        self.count += 1;
        self.total += took;
        self.longest = self.longest.max(took);
    }
}

impl fmt::Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = |it: Duration| it.as_secs_f64() * 1000.0;
        let mean = self.total.checked_div(u32::try_from(self.count).unwrap_or(u32::MAX));
        write!(
            f,
            "{} frames: {:.2} ms on average, {:.2} ms at most",
            self.count,
            milliseconds(mean.unwrap_or_default()),
            milliseconds(self.longest)
        )?;
        match self.reload {
            Some((_, longest)) => write!(
                f,
                "; {:.2} ms at most in the {AROUND_RELOAD} after the last reload",
                milliseconds(longest)
            ),
            None => Ok(()),
        }
    }
}
