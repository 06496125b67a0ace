//! The life of a version: its stages, and the transitions between them.
//!
//! ```text
//! Loading ─→ Serving ─→ Leaving ─→ OnFree ─→ AfterOnFree ─→ Dropping ─→ Draining ─→ Detaching ─→ Detached ─→ Over
//!    ├──────(undone)──────↗                                                                                    ↑
//!    └──────(not opened)───────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! From `Leaving` on, nothing new enters the version. From `OnFree` on, only its own threads and tasks run in
//! it. Consoles see fewer states: `Loading`, `Active`, `Retired` or `Failed`, `Pinned`, and how it ended.

use std::time::{Duration, Instant};

use hotswap_protocol::{Activity, Ending, Failure, VersionState};

/// The stage of a version in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Its load is running.
    Loading,
    /// It belongs to the generation that serves.
    Serving,
    /// It was replaced, or its load was undone. Calls in it may continue.
    Leaving,
    /// `on_free` runs.
    OnFree,
    /// `on_free` has run.
    AfterOnFree,
    /// Its values and objects are being dropped.
    Dropping,
    /// Its values and objects are gone; destructors of thread-locals may run.
    Draining,
    /// Its instance is being dropped.
    Detaching,
    /// Its instance is gone.
    Detached,
    /// Its image was unmapped, or stays mapped forever.
    Over(End),
}

/// How a version ended, without what it left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// It has served, and its image is unmapped.
    Freed,
    /// It never served, and its image is unmapped or was never mapped.
    Failed,
    /// Its image stays mapped.
    Kept,
}

impl Stage {
    /// Whether the reaper has begun to end the version, or has ended it.
    pub fn is_ending(self) -> bool {
        self > Self::Leaving
    }

    pub fn is_over(self) -> bool {
        matches!(self, Self::Over(_))
    }

    /// The stage with which to continue after a panic of the host's code: each step runs once.
    pub fn passed(self) -> Self {
        match self {
            Self::OnFree => Self::AfterOnFree,
            Self::Dropping => Self::Draining,
            Self::Detaching => Self::Detached,
            other => other,
        }
    }

    /// The code of the image that runs in this stage of its end.
    pub fn running(self) -> Option<Activity> {
        match self {
            Self::OnFree => Some(Activity::OnFree),
            Self::Dropping => Some(Activity::DropValue),
            Self::Detaching => Some(Activity::DropPlugin),
            _ => None,
        }
    }

    fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Loading, Self::Serving | Self::Leaving | Self::Over(End::Failed)) => true,
            (Self::Serving, Self::Leaving) => true,
            // A version that was only opened to be asked never serves, and is never undone.
            (Self::Loading | Self::Leaving, Self::OnFree) => true,
            (Self::OnFree, Self::AfterOnFree) => true,
            (Self::AfterOnFree, Self::Dropping) => true,
            (Self::Dropping, Self::Draining) => true,
            (Self::Draining, Self::Detaching) => true,
            (Self::Detaching, Self::Detached) => true,
            (Self::Detached, Self::Over(_)) => true,
            _ => false,
        }
    }
}

/// The life of one version so far.
#[derive(Debug)]
pub(crate) struct Life {
    stage: Stage,
    /// Whether only thread-locals kept it when this was last checked.
    is_pinned: bool,
    /// The text besides the state; empty if there is none.
    remark: String,
    /// Why it never served; `None` if it did, or may still.
    failure: Option<Failure>,
    /// How it ended, and what it left behind; `None` if it has not ended.
    ending: Option<Ending>,
    serving_since: Option<Instant>,
    leaving_since: Option<Instant>,
}

impl Life {
    pub fn new() -> Self {
        Self {
            stage: Stage::Loading,
            is_pinned: false,
            remark: String::new(),
            failure: None,
            ending: None,
            serving_since: None,
            leaving_since: None,
        }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The state in the console protocol.
    pub fn state(&self) -> VersionState {
        match self.stage {
            Stage::Loading => VersionState::Loading,
            Stage::Serving => VersionState::Active,
            Stage::Over(End::Freed) => VersionState::Freed,
            Stage::Over(End::Failed) => VersionState::Failed,
            Stage::Over(End::Kept) => VersionState::Kept,
            _ if self.failure.is_some() => VersionState::Failed,
            _ if self.is_pinned => VersionState::Pinned,
            _ => VersionState::Retired,
        }
    }

    pub fn remark(&self) -> &str {
        &self.remark
    }

    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Since when it serves; `None` if it does not.
    pub fn serving_since(&self) -> Option<Instant> {
        self.serving_since.filter(|_| self.stage == Stage::Serving)
    }

    pub fn has_served(&self) -> bool {
        self.serving_since.is_some()
    }

    /// How long ago it was replaced, or its load undone.
    pub fn since_leaving(&self) -> Option<Duration> {
        self.leaving_since.map(|since| since.elapsed())
    }

    /// When it was replaced; `None` if it was not.
    pub fn replaced_at(&self) -> Option<Instant> {
        self.leaving_since.filter(|_| self.failure.is_none())
    }

    /// Notes that it serves from now on.
    pub fn serve(&mut self, remark: &str) {
        self.pass_to(Stage::Serving, remark);
        self.serving_since = Some(Instant::now());
    }

    /// Notes that it was replaced.
    pub fn retire(&mut self) {
        self.pass_to(Stage::Leaving, "");
        self.leaving_since = Some(Instant::now());
    }

    /// Notes that its load was undone.
    pub fn fail(&mut self, why: Failure) {
        self.pass_to(Stage::Leaving, &why.to_string());
        self.leaving_since = Some(Instant::now());
        self.failure = Some(why);
    }

    /// Takes the next step towards its end.
    pub fn advance(&mut self, stage: Stage) {
        self.check(stage);
        self.stage = stage;
    }

    /// Notes that it waits for holders, or only for destructors of thread-locals. A version whose load was
    /// undone stays `failed` meanwhile.
    pub fn wait(&mut self, is_pinned: bool, holders: String) {
        if self.failure.is_none() {
            (self.is_pinned, self.remark) = (is_pinned, holders);
        }
    }

    /// Notes that it has ended.
    pub fn end(&mut self, ending: Ending) {
        let (end, remark) = match &ending {
            Ending::Freed(freed) => (End::Freed, freed.to_string()),
            Ending::Kept(why) => (End::Kept, why.to_string()),
            _ => (End::Failed, self.failure.as_ref().map(ToString::to_string).unwrap_or_default()),
        };
        self.pass_to(Stage::Over(end), &remark);
        self.ending = Some(ending);
    }

    /// Notes that its image could not be opened.
    pub fn end_unopened(&mut self, why: Failure) {
        self.failure = Some(why);
        self.end(Ending::Failed);
    }

    fn pass_to(&mut self, stage: Stage, remark: &str) {
        self.check(stage);
        self.stage = stage;
        remark.clone_into(&mut self.remark);
    }

    fn check(&self, next: Stage) {
        debug_assert!(
            self.stage.may_become(next),
            "a version went from {:?} to {next:?}",
            self.stage
        );
    }
}

#[cfg(test)]
mod tests {
    use hotswap_protocol::{KeepKind, KeepReason};

    use super::*;

    const TO_THE_END: [Stage; 9] = [
        Stage::Serving,
        Stage::Leaving,
        Stage::OnFree,
        Stage::AfterOnFree,
        Stage::Dropping,
        Stage::Draining,
        Stage::Detaching,
        Stage::Detached,
        Stage::Over(End::Freed),
    ];

    #[test]
    fn each_step_leads_to_the_next_only() {
        let mut before = Stage::Loading;
        for (at, stage) in TO_THE_END.into_iter().enumerate() {
            assert!(before.may_become(stage), "{before:?} to {stage:?}");
            let back = TO_THE_END[..at].iter().chain([&Stage::Loading]);
            back.for_each(|earlier| {
                assert!(!stage.may_become(*earlier), "{stage:?} to {earlier:?}")
            });
            before = stage;
        }
    }

    #[test]
    fn each_stage_has_the_state_that_consoles_show() {
        let mut life = Life::new();
        assert_eq!(life.state(), VersionState::Loading);
        life.serve("");
        assert_eq!(life.state(), VersionState::Active);
        life.retire();
        life.wait(false, "1 call".into());
        assert_eq!((life.state(), life.remark()), (VersionState::Retired, "1 call"));
        life.wait(true, "thread-local".into());
        assert_eq!(life.state(), VersionState::Pinned);
        TO_THE_END[2..8].iter().for_each(|stage| life.advance(*stage));
        life.end(Ending::Kept(KeepReason::new(KeepKind::Loader, "why")));
        assert_eq!((life.state(), life.remark()), (VersionState::Kept, "why"));
    }
}
