//! Makes the shared libraries of several plugins side by side.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use hotswap_artifact::BuildId;

use crate::build::compile::expect_dir;
use crate::build::link::{Linked, Linking, OnMessage, not_kept, not_recorded};
use crate::build::lock::BuildLock;
use crate::build::{BuildOptions, Built};
use crate::jobs::Jobs;
use crate::replay::{self, NewBuild, Next, Outdated, Ran, Replay, Seen, UnitId};
use crate::{BuildError, BuildErrorKind, Cancel, PluginPackage};

/// The largest number of times that one build compiles sources without cargo, if they keep changing
/// meanwhile.
const MOST_REPLAYS: usize = 4;

/// Plugins that are built together, from the moment when no other build uses their target directories.
pub(super) struct Batch<'a> {
    cancel: &'a Cancel,
    jobs: Jobs,
    places: Places,
    members: Vec<Member<'a>>,
    /// The crates that neither a build without cargo nor cargo itself could compile.
    broken: BTreeMap<UnitId, String>,
    /// The inputs of finished builds, each with the position of its plugin and its artifact.
    new: Vec<(usize, NewBuild, BuildId, PathBuf)>,
}

/// A plugin of a batch.
struct Member<'a> {
    linking: Linking<'a>,
    /// The position of its record; `None` if its builds are not recorded.
    record: Option<usize>,
    /// Why it cannot be built.
    error: Option<BuildError>,
}

impl Member<'_> {
    /// Whether it may be compiled without cargo.
    fn is_recorded(&self) -> bool {
        self.error.is_none() && self.record.is_some() && self.linking.may_replay()
    }

    fn note_error<T>(&mut self, result: Result<T, BuildError>) -> Option<T> {
        result.map_err(|error| self.error = Some(error)).ok()
    }
}

/// The target directories of a build, locked, and the records in them.
#[derive(Default)]
struct Places {
    locks: BTreeMap<PathBuf, BuildLock>,
    records: Vec<Replay>,
}

impl Places {
    /// The position of the record in `dir`.
    fn open(&mut self, dir: PathBuf) -> usize {
        let known = self.records.iter().position(|record| record.dir() == dir);
        known.unwrap_or_else(|| {
            self.records.push(Replay::open(dir));
            self.records.len() - 1
        })
    }
}

impl<'a> Batch<'a> {
    /// Locks the target directories of `plugins`, always in the same order, so that no two batches wait
    /// for each other.
    pub(super) fn begin(
        plugins: &'a [(PluginPackage, &'a BuildOptions)],
        cancel: &'a Cancel,
        on_message: &'a OnMessage<'a>,
    ) -> Self {
        let mut places = Places::default();
        let mut order: Vec<usize> = (0..plugins.len()).collect();
        order.sort_by_key(|position| &plugins[*position].0.target_dir);
        let mut errors = BTreeMap::new();
        for position in order {
            let plugin = &plugins[position].0;
            if let Err(error) = expect_dir(&plugin.name, &plugin.dir) {
                errors.insert(position, error);
                continue;
            }
            let target_dir = plugin.cargo_target_dir();
            if places.locks.contains_key(&target_dir) {
                continue;
            }
            let send = &mut |message| on_message(position, message);
            match BuildLock::acquire(&target_dir, &plugin.name, cancel, send) {
                Ok(lock) => drop(places.locks.insert(target_dir, lock)),
                Err(error) => drop(errors.insert(position, error)),
            }
        }
        let members = plugins.iter().enumerate().map(|(position, (plugin, options))| {
            let mut linking = Linking::of(plugin, options, cancel, on_message, position);
            let error = errors.remove(&position);
            let dir = if error.is_none() { linking.place_of_record() } else { None };
            Member { record: dir.map(|dir| places.open(dir)), linking, error }
        });
        let members = members.collect();
        let jobs = plugins.first().map(|(plugin, options)| {
            let files = replay::configuration_files(&plugin.dir, &plugin.configurations);
            Jobs::of(&options.cargo_flags, &files)
        });
        let jobs = jobs.unwrap_or_else(|| Jobs::of(&[], &[]));
        Self { cancel, jobs, places, members, broken: BTreeMap::new(), new: Vec::new() }
    }

    /// Brings the libraries up to date. First cargo runs where it is needed, for one plugin after the other,
    /// since cargo lets only one process use a target directory. Then the rest is compiled side by side. If
    /// cargo runs for several plugins, it compiles only their dependencies, and the plugins themselves belong
    /// to the rest.
    pub(super) fn compile(&mut self) {
        let mut seen = Seen::new();
        let mut has_run = false;
        let may_hold = self.count_outdated(&mut seen) > 1;
        for member in self.members.iter_mut().filter(|member| member.error.is_none()) {
            member.linking.may_hold = may_hold;
            if has_run {
                member.linking.next = None;
            }
            let record = member.record.map(|record| &mut self.places.records[record]);
            let ran = member.linking.run_cargo_where_needed(record, &mut seen);
            has_run |= member.note_error(ran).unwrap_or(true);
        }
        if has_run {
            self.members.iter_mut().for_each(|member| member.linking.next = None);
        }
        for _ in 0..MOST_REPLAYS {
            let outdated = self.outdated(&mut seen);
            if outdated.is_empty() || self.cancel.is_cancelled() {
                return;
            }
            self.replay(outdated, &seen);
            seen.clear();
        }
    }

    /// How many of the recorded plugins are not up to date.
    fn count_outdated(&mut self, seen: &mut Seen) -> usize {
        let mut count = 0;
        for member in self.members.iter_mut().filter(|member| member.is_recorded()) {
            let Some(record) = member.record else { continue };
            let next = member.linking.check(&self.places.records[record], seen);
            count += usize::from(!matches!(next, Next::UpToDate));
        }
        count
    }

    /// The units that have to be compiled without cargo, by the position of the record.
    fn outdated(&mut self, seen: &mut Seen) -> BTreeMap<usize, Outdated> {
        let mut all: BTreeMap<usize, Outdated> = BTreeMap::new();
        for member in self.members.iter_mut().filter(|member| member.is_recorded()) {
            let Some(record) = member.record else { continue };
            if let Next::Replay(outdated) = member.linking.check(&self.places.records[record], seen)
            {
                all.entry(record).or_default().add(outdated);
                member.linking.report_another_replay();
            }
        }
        all
    }

    fn replay(&mut self, outdated: BTreeMap<usize, Outdated>, seen: &Seen) {
        let count = outdated.values().map(Outdated::count).sum();
        let server = self.jobs.server_for(count);
        let (server, cancel) = (server.ok().flatten(), self.cancel);
        let calls = self.places_for_calls(&outdated);
        let of_record = self.places.records.iter_mut().enumerate();
        let of_record = of_record.filter_map(|(at, record)| Some((at, record, outdated.get(&at)?)));
        let requests: Vec<_> =
            self.members.iter().filter_map(|it| it.linking.patch_request()).collect();
        let ran: BTreeMap<usize, Ran> = thread::scope(|scope| {
            let runs: Vec<_> = of_record
                .map(|(at, record, outdated)| {
                    let (calls, server) = (calls.get(&at).map(PathBuf::as_path), server.as_ref());
                    let requests = &requests[..];
                    let run = move || record.run(outdated, seen, calls, requests, server, cancel);
                    (at, scope.spawn(run))
                })
                .collect();
            let join = |(at, run): (usize, thread::ScopedJoinHandle<'_, _>)| {
                let ran = run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                (at, std::io::Result::unwrap_or_default(ran))
            };
            runs.into_iter().map(join).collect()
        });
        drop(requests);
        for member in self.members.iter_mut().filter(|member| member.is_recorded()) {
            let Some((at, ran)) = member.record.and_then(|at| Some((at, ran.get(&at)?))) else {
                continue;
            };
            let record = &self.places.records[at];
            let linking = &mut member.linking;
            let Some(Next::Replay(outdated)) = &linking.next else { continue };
            let result = match outdated.first_missing(ran) {
                Some(missing) => Err(missing.clone()),
                None => Ok(record.recompiled(&linking.member, ran)),
            };
            let changes = ran.changes_of(outdated);
            linking.replayed(result, changes);
        }
    }

    /// The directories for the compiler calls of a run, by the position of the record, for plugins that keep
    /// their calls. The user is told about them.
    fn places_for_calls(&self, outdated: &BTreeMap<usize, Outdated>) -> BTreeMap<usize, PathBuf> {
        let mut places = BTreeMap::new();
        for member in self.members.iter().filter(|member| member.linking.keeps_calls()) {
            let Some(at) = member.record.filter(|at| outdated.contains_key(at)) else { continue };
            if places.contains_key(&at) {
                continue;
            }
            match self.places.records[at].place_for_calls() {
                Ok(place) => {
                    let text = "the compiler calls of this build are in";
                    member.linking.send_output(format!("{text} {}", place.display()));
                    places.insert(at, place);
                }
                Err(error) => {
                    member
                        .linking
                        .send_output(format!("the compiler calls cannot be kept: {error}"));
                }
            }
        }
        places
    }

    /// The library of the plugin at `position`, and the input of its build.
    pub(super) fn link(
        &mut self,
        position: usize,
    ) -> Result<(Linked, Option<NewBuild>), BuildError> {
        let member = &mut self.members[position];
        if let Some(error) = member.error.take() {
            return Err(error);
        }
        let linking = &mut member.linking;
        let mut record = member.record.map(|record| &mut self.places.records[record]);
        let failed = linking.failed.clone();
        if let Some(broken) = failed.as_ref().and_then(|failed| self.broken.get(failed)) {
            return Err(BuildError::compile(format!(
                "`{}` does not compile, because `{broken}` does not",
                linking.member.plugin.name
            )));
        }
        let linked = linking.link(record.as_deref_mut());
        if let (Some(failed), Some(record), Err(_)) = (failed, &record, &linked)
            && let Some(name) = record.crate_with_errors(&failed, &linking.files_with_errors)
        {
            self.broken.insert(failed, name.to_owned());
        }
        if linking.has_run_cargo()
            && let Some(record) = &mut record
        {
            record.read_sources();
        }
        Ok((linked?, record.and_then(|record| record.new_build(&linking.member))))
    }

    /// The record of the plugin at `position`, and the plugin as a member of it.
    pub(super) fn record(&self, position: usize) -> Option<(&Replay, &replay::Member<'a>)> {
        let member = &self.members[position];
        Some((&self.places.records[member.record?], &member.linking.member))
    }

    /// Records the artifact of the plugin at `position`. The input of its build is kept for later patches.
    pub(super) fn note_build(&mut self, position: usize, built: &Built, new: Option<NewBuild>) {
        let member = &self.members[position];
        if let Some(record) = member.record {
            let known = &member.linking.member;
            self.places.records[record].note_build_id(known, built.build_id.to_string());
        }
        self.new.extend(new.map(|new| (position, new, built.build_id, built.artifact.clone())));
    }

    /// Writes the records, and keeps the inputs of the builds, for which no caller of the builds has to wait. If a record
    /// cannot be written, this is reported, and the next build runs cargo.
    pub(super) fn end(mut self) {
        for (position, new, build_id, artifact) in std::mem::take(&mut self.new) {
            if let Err(error) = new.keep(build_id, &artifact) {
                let linking = &mut self.members[position].linking;
                linking.send_output(not_kept(linking.member.plugin, &error));
            }
        }
        for (at, record) in self.places.records.iter_mut().enumerate() {
            if let Err(error) = record.save()
                && let Some(member) = self.members.iter().find(|it| it.record == Some(at))
            {
                member.linking.send_output(not_recorded(member.linking.member.plugin, &error));
            }
            // Without the outlines, the next build cannot tell what changed.
            let _ = record.save_outlines();
        }
        // If several plugins are built together, it is not known which one will be saved next.
        if let [Member { linking, record: Some(at), .. }] = &self.members[..]
            && linking.keeps_compiler()
        {
            self.places.records[*at].prepare_compiler(&linking.member);
        }
    }
}

/// The result of cargo for a plugin that was up to date without it.
pub(super) struct Reviewed<'a> {
    pub batch: Batch<'a>,
    /// The build id of the earlier artifact.
    pub replayed: String,
    /// The crates that cargo compiled although none of their recorded sources had changed.
    pub missed: Vec<String>,
}

impl<'a> Batch<'a> {
    /// Runs cargo for the only plugin of the batch, which has `no_replay`, if it is up to date without cargo.
    /// `None` if it is not up to date, or if its builds are not recorded.
    pub(super) fn review(mut self) -> Result<Option<Reviewed<'a>>, BuildError> {
        let Some(member) = self.members.first_mut() else { return Ok(None) };
        if let Some(error) = member.error.take() {
            return Err(error);
        }
        let Some(record) = member.record.map(|record| &mut self.places.records[record]) else {
            return Ok(None);
        };
        let linking = &mut member.linking;
        let Some(replayed) = record.build_id(&linking.member).map(str::to_owned) else {
            return Ok(None);
        };
        if !matches!(record.next(&linking.member, &mut Seen::new()), Next::UpToDate) {
            return Ok(None);
        }
        let unchanged = record.unchanged_since_cargo(&linking.member);
        if let Err(error) = linking.run_cargo_where_needed(Some(record), &mut Seen::new()) {
            // A build without cargo would report success.
            if error.kind() != BuildErrorKind::Cancelled
                && let Err(error) = record.mark_outdated(&linking.member)
            {
                linking.send_output(not_recorded(linking.member.plugin, &error));
            }
            return Err(error);
        }
        let missed = linking.compiled_of(&unchanged);
        Ok(Some(Reviewed { batch: self, replayed, missed }))
    }
}
