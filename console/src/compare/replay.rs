//! Makes the pinned calls in builds that no host has loaded yet, and in the builds that the host has loaded.
//!
//! Each call runs in a process of its own, which is another process of this program. The process loads all
//! artifacts as the host would, makes the call, and is killed. So a panic, a crash or a call that never returns
//! does no harm. The process has nothing of the host: no Vault, no host services, and nothing else that the host
//! gives to its plugins. To make both results comparable, the loaded builds are called in such a process too, and
//! their results in the host are not used.

mod words;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use hotswap_engine::probe;
use hotswap_protocol::{
    ErrorKind, InvokeParams, InvokeResult, MAX_PINS, Outcome, PinParams, PinnedOutcome, Pins,
    PlanParams, PlannedPlugin, ReloadPlan, Request, WireError, same_plugin,
};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::{Instant, timeout};

use super::probe::{Prober, exit_of, own_output, prepare, read_end};
use crate::host::HostExit;
use crate::host::client::Client;

/// The hidden command.
pub(super) const COMMAND: &str = "__replay";
/// How long loading the artifacts may take.
const LOAD_PATIENCE: Duration = Duration::from_secs(30);
/// How long a call may take.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// How long all calls together may take; later calls are not made.
const PATIENCE: Duration = Duration::from_secs(120);
/// The largest answer of a process in bytes.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// The results of the pinned calls, in the builds that serve and in the builds that a reload would load.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Replay {
    /// The calls; those with different results come first.
    pub calls: Vec<ReplayedCall>,
    /// Why no call could be made: a plugin could not be loaded without its host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WireError>,
}

/// A pinned call that was made in both builds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayedCall {
    /// The plugin.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// The arguments in the order of the parameters.
    pub args: Vec<Value>,
    /// The version that serves; `None` for a new plugin.
    pub version: Option<u32>,
    /// The build that would serve; `None` for a plugin that would be removed.
    pub build_id: Option<String>,
    /// The result in the build that serves.
    pub old: Answer,
    /// The result in the build that would serve.
    pub new: Answer,
    /// Whether both results are the same; `None` if one of the calls was not made.
    pub is_same: Option<bool>,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// How long the call took, in nanoseconds; `None` if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elapsed_ns: Option<u64>,
    /// The outcome of the call.
    #[serde(flatten)]
    pub outcome: CallOutcome,
}

/// The outcome of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// The function returned this.
    Value(Value),
    /// The function returned a value whose JSON has this many bytes, which is more than is kept.
    LargeValue(u64),
    /// The call failed.
    Error(WireError),
    /// The call had not returned after this many milliseconds, and its process was killed.
    RunsOn(u64),
    /// The call ended its process.
    Ended(HostExit),
    /// The call was not made, for this reason.
    NotCalled(WireError),
}

/// The task of a process.
#[derive(Serialize, Deserialize)]
struct Job {
    artifacts: Vec<PathBuf>,
    call: Call,
}

#[derive(Serialize, Deserialize)]
enum Call {
    Pinned(PinParams),
    Asked(InvokeParams),
}

/// A line that the process writes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Loaded,
    NotLoaded(WireError),
    Given(Given),
    Invoked(Box<Result<InvokeResult, WireError>>),
}

#[derive(Serialize, Deserialize)]
struct Given {
    elapsed_ns: Option<u64>,
    outcome: PinnedOutcome,
    digest: u64,
}

/// The result of a call, with a hash that distinguishes it; or why the artifacts could not be loaded.
type Made = Result<(Answer, Option<u64>), WireError>;

/// Makes a call in the serving builds, and in the same builds with another build of its plugin, each in a process
/// of its own.
pub async fn invoke_in_both(
    client: &Client,
    prober: &Prober,
    call: &InvokeParams,
    other: &Path,
) -> [Result<InvokeResult, WireError>; 2] {
    let asked = Request::Plan(PlanParams::default());
    let plan: ReloadPlan = match client.ask(asked).await {
        Ok(plan) => plan,
        Err(error) => return [Err(error.clone()), Err(error)],
    };
    let is_meant = |it: &&PlannedPlugin| same_plugin(&it.name, &call.plugin);
    let loaded = plan.plugins.iter().find(is_meant).and_then(|it| it.loaded.as_ref());
    let (version, patch) = loaded.map_or((0, None), |it| (it.version, it.patch));
    let serves: Vec<PathBuf> = plan.plugins.iter().filter_map(loaded_file).collect();
    let others = plan.plugins.iter().filter(|it| !is_meant(it)).filter_map(loaded_file);
    let with_other: Vec<PathBuf> = others.chain([other.to_owned()]).collect();
    let first = invoke(prober, &serves, call).await;
    let first = first.map(|answer| InvokeResult { version, patch, ..answer });
    let second = invoke(prober, &with_other, call).await;
    // This build is not a version of the host, so its number is 0.
    [first, second.map(|answer| InvokeResult { version: 0, ..answer })]
}

/// Makes a call without a time limit.
async fn invoke(
    prober: &Prober,
    artifacts: &[PathBuf],
    call: &InvokeParams,
) -> Result<InvokeResult, WireError> {
    match run(prober, artifacts, Call::Asked(call.clone()), None).await? {
        Run::Answered(Line::Invoked(answer)) => *answer,
        Run::Ended(exit) => {
            let message = format!("the call ended its process, with {exit}");
            Err(WireError::new(ErrorKind::PluginError, message))
        }
        Run::Answered(_) | Run::RunsOn => Err(failed("the process of the call gave no answer")),
    }
}

impl Replay {
    /// Asks the host for its plan and for the pinned calls, and makes these calls.
    pub async fn make(
        client: &Client,
        prober: &Prober,
        asked: PlanParams,
    ) -> Result<Self, WireError> {
        let plan: ReloadPlan = client.ask(Request::Plan(asked)).await?;
        let pins: Pins = client.ask(Request::Pins).await?;
        let calls = pins.pins.iter().take(MAX_PINS).map(|pin| pin.params()).collect();
        let serves: Vec<PathBuf> = plan.plugins.iter().filter_map(loaded_file).collect();
        let would_serve: Vec<PathBuf> = plan.plugins.iter().filter_map(new_file).collect();
        Ok(Self::of(prober, &plan.plugins, calls, [&serves, &would_serve]).await)
    }

    async fn of(
        prober: &Prober,
        plugins: &[PlannedPlugin],
        calls: Vec<PinParams>,
        sides: [&[PathBuf]; 2],
    ) -> Self {
        let begun = Instant::now();
        let mut replay = Self { calls: Vec::new(), error: None };
        for call in calls {
            let mut made = Vec::with_capacity(sides.len());
            for (artifacts, which) in sides.iter().zip(["the serving builds", "the new builds"]) {
                let answer = match begun.elapsed() < PATIENCE {
                    true => make_call(prober, artifacts, &call).await,
                    false => Ok((no_time_left(), None)),
                };
                match answer {
                    Ok(answer) => made.push(answer),
                    Err(error) => {
                        let message = format!(
                            "{which} cannot be loaded in a process without the host, so no call was \
                             made: {}",
                            error.message
                        );
                        replay.error = Some(WireError { message, ..error });
                        return replay;
                    }
                }
            }
            let (Some((new, new_digest)), Some((old, old_digest))) = (made.pop(), made.pop())
            else {
                continue;
            };
            let of_call = plugins.iter().find(|it| it.name == call.plugin);
            replay.calls.push(ReplayedCall {
                version: of_call.and_then(|it| it.loaded.as_ref()).map(|it| it.version),
                build_id: of_call.and_then(new_build),
                is_same: is_same((&old, old_digest), (&new, new_digest)),
                plugin: call.plugin,
                function: call.function,
                args: call.args,
                old,
                new,
            });
        }
        replay.calls.sort_by_key(|call| call.is_same != Some(false));
        replay
    }
}

/// The file of the version that serves; `None` for a plugin that is linked into its host.
fn loaded_file(plugin: &PlannedPlugin) -> Option<PathBuf> {
    plugin.loaded.as_ref()?.path.clone()
}

/// The file of the version that would serve.
fn new_file(plugin: &PlannedPlugin) -> Option<PathBuf> {
    match (plugin.outcome, &plugin.new) {
        (Outcome::Removed, _) => None,
        (_, Some(new)) => Some(new.path.clone()),
        (_, None) => loaded_file(plugin),
    }
}

/// The build that would serve.
fn new_build(plugin: &PlannedPlugin) -> Option<String> {
    match (plugin.outcome, &plugin.new, &plugin.loaded) {
        (Outcome::Removed, ..) => None,
        (_, Some(new), _) => Some(new.build_id.clone()),
        (_, None, loaded) => loaded.as_ref().map(|loaded| loaded.build_id.clone()),
    }
}

fn is_same(old: (&Answer, Option<u64>), new: (&Answer, Option<u64>)) -> Option<bool> {
    use CallOutcome as O;
    match (&old.0.outcome, &new.0.outcome) {
        (O::NotCalled(_), _) | (_, O::NotCalled(_)) | (O::RunsOn(_), O::RunsOn(_)) => None,
        (O::Ended(old), O::Ended(new)) => Some(old == new),
        _ => Some(old.1.is_some() && old.1 == new.1),
    }
}

fn no_time_left() -> Answer {
    let seconds = PATIENCE.as_secs();
    let message = format!("the calls before it took {seconds} s, and no time is left");
    not_called(WireError::new(ErrorKind::Cancelled, message))
}

fn not_called(error: WireError) -> Answer {
    Answer { elapsed_ns: None, outcome: CallOutcome::NotCalled(error) }
}

/// Makes a pinned call.
async fn make_call(prober: &Prober, artifacts: &[PathBuf], call: &PinParams) -> Made {
    let ran = run(prober, artifacts, Call::Pinned(call.clone()), Some(CALL_PATIENCE)).await?;
    let outcome = match ran {
        Run::Answered(Line::Given(given)) => return Ok(given.answer()),
        Run::Answered(_) => return Err(failed("the process of the call gave no answer")),
        Run::RunsOn => CallOutcome::RunsOn(CALL_PATIENCE.as_millis() as u64),
        Run::Ended(exit) => CallOutcome::Ended(exit),
    };
    Ok((Answer { elapsed_ns: None, outcome }, None))
}

fn failed(what: impl Into<String>) -> WireError {
    WireError::new(ErrorKind::Internal, what)
}

/// What happened in a process after its artifacts were loaded.
enum Run {
    /// It wrote the result of the call.
    Answered(Line),
    /// It wrote nothing in time.
    RunsOn,
    /// The call ended it.
    Ended(HostExit),
}

/// Loads the artifacts in a process, makes the call there, and kills the process.
async fn run(
    prober: &Prober,
    artifacts: &[PathBuf],
    call: Call,
    patience: Option<Duration>,
) -> Result<Run, WireError> {
    let job = Job { artifacts: artifacts.to_vec(), call };
    let job = serde_json::to_string(&job).map_err(|error| failed(error.to_string()))?;
    let started = prober.start(COMMAND, [job]);
    let mut child =
        started.map_err(|error| failed(format!("no process for it can be started: {error}")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // The output of the plugins is dropped, so that the process never waits for a reader.
    let drain = tokio::spawn(read_end(stderr));
    let Some(stdout) = stdout else { return Err(failed("it has no output")) };
    let mut lines = BufReader::new(stdout.take(MAX_ANSWER)).lines();
    let mut next = async |patience: Option<Duration>| match timeout(
        patience.unwrap_or(Duration::MAX),
        lines.next_line(),
    )
    .await
    {
        Ok(Ok(Some(line))) => Next::Line(serde_json::from_str(&line).ok()),
        Ok(_) => Next::End,
        Err(_) => Next::Nothing,
    };
    let loaded = next(Some(LOAD_PATIENCE)).await;
    let given = match &loaded {
        Next::Line(Some(Line::Loaded)) => Some(next(patience).await),
        _ => None,
    };
    // A process that has finished kills itself; any other one is not waited for.
    let ended: Option<ExitStatus> = match given.as_ref().unwrap_or(&loaded) {
        Next::End => child.wait().await.ok(),
        _ => {
            let _ = child.kill().await;
            None
        }
    };
    let exit = ended.map(exit_of);
    match (loaded, given) {
        (Next::Line(Some(Line::NotLoaded(error))), _) => Err(error),
        (_, Some(Next::Line(Some(line)))) => Ok(Run::Answered(line)),
        (_, Some(Next::Nothing)) => Ok(Run::RunsOn),
        (_, Some(Next::End)) => match exit {
            Some(exit) => Ok(Run::Ended(exit)),
            None => Err(failed("it is not known how the process of the call ended")),
        },
        (Next::Nothing, _) => {
            let seconds = LOAD_PATIENCE.as_secs();
            Err(failed(format!("loading had not ended after {seconds} s")))
        }
        _ => {
            let exit = exit.map_or_else(String::new, |exit| format!(" with {exit}"));
            let last_words = drain.await.unwrap_or_default();
            let mut error = failed(format!("loading ended the process{exit}"));
            if !last_words.is_empty() {
                error.chain.push(format!("its last output: {last_words}"));
            }
            Err(error)
        }
    }
}

/// The next output of the process.
enum Next {
    /// A line; `None` if it is not in our format.
    Line(Option<Line>),
    /// It has ended.
    End,
    /// Nothing in time.
    Nothing,
}

impl Given {
    fn answer(self) -> (Answer, Option<u64>) {
        let Self { elapsed_ns, outcome, digest } = self;
        let outcome = match outcome {
            PinnedOutcome::Value(value) => CallOutcome::Value(value),
            PinnedOutcome::LargeValue(size) => CallOutcome::LargeValue(size),
            // The function has effects in that build.
            PinnedOutcome::Error(error) if error.kind == ErrorKind::Pin => {
                CallOutcome::NotCalled(error)
            }
            PinnedOutcome::Error(error) => CallOutcome::Error(error),
        };
        (Answer { elapsed_ns, outcome }, Some(digest))
    }
}

/// The work of the process.
pub(super) fn serve(job: &str) -> std::io::Result<()> {
    prepare()?;
    let mut out = own_output()?;
    let mut write_line = |line: &Line| {
        let line = serde_json::to_string(line).map_err(std::io::Error::other)?;
        writeln!(out, "{line}")
    };
    let job: Job = serde_json::from_str(job).map_err(std::io::Error::other)?;
    match probe::Replay::load(job.artifacts) {
        Err(error) => write_line(&Line::NotLoaded(error.to_wire()))?,
        Ok(loaded) => {
            write_line(&Line::Loaded)?;
            write_line(&match job.call {
                Call::Asked(call) => Line::Invoked(Box::new(loaded.invoke(&call))),
                Call::Pinned(call) => Line::Given(match loaded.call(&call) {
                    Ok(probe::Replayed { elapsed_ns, outcome, digest }) => {
                        Given { elapsed_ns, outcome, digest }
                    }
                    Err(error) => {
                        let outcome = PinnedOutcome::Error(error.to_wire());
                        Given { elapsed_ns: None, outcome, digest: 0 }
                    }
                }),
            })?;
            // The artifacts are never freed: `on_free` might undo something that belongs to the host.
            kill_process(getpid(), Signal::KILL)?;
        }
    }
    Ok(())
}
