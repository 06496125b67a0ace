//! The command line of `hotswap`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, Args, CommandFactory as _, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use hotswap_fleet::Id;
use hotswap_protocol::{MAX_REPEAT, env};

use crate::host::socket::HostChoice;
use crate::session::Watch;

/// Reload native plugins inside a running host, from scripts.
#[derive(Debug, Parser)]
#[command(
    name = "hotswap",
    version,
    after_help = "Exit codes: 0 done, 1 the operation failed, 2 the command line is wrong, \
                  3 no host runs, or several do and --host chose none, 4 a rollout is paused or cannot \
                  be judged, 5 a rollout was rolled back."
)]
pub struct Arguments {
    /// The host to talk to, when several run: its name, its process id or its socket. Without it the
    /// host of the project is meant that the current directory is in, if one runs.
    #[arg(long, global = true, value_name = "NAME|PID|SOCKET")]
    pub host: Option<HostChoice>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands that ask no host, and that a host to talk to means nothing to.
const WITHOUT_HOST: [&str; 8] =
    ["new", "init", "build", "run", "hosts", "fleet", "completions", "man"];

impl Arguments {
    /// The command line. `--host` is not told where it means nothing, but taken all the same.
    pub fn described() -> clap::Command {
        let hidden = || {
            let host = Arg::new("host").long("host").value_parser(value_parser!(HostChoice));
            host.hide(true).global(true)
        };
        let hide =
            |command: clap::Command, name| command.mut_subcommand(name, |it| it.arg(hidden()));
        WITHOUT_HOST.into_iter().fold(Self::command(), hide)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new project, or a new plugin in the project of the current directory.
    New(NewArguments),
    /// Add Hotswap and a first plugin to a package that exists.
    Init(InitArguments),
    /// Build a plugin and put its artifact into a directory; prints the artifact's path last.
    Build(BuildArguments),
    /// Build a host and its plugins, run it, and reload what changes: one line an event.
    Run(RunArguments),
    /// List the hosts that run.
    Hosts(OutputArguments),
    /// Show the plugins and versions of a host.
    Status(OutputArguments),
    /// Reload the plugins whose artifact changed.
    Reload(ReloadArguments),
    /// Show the last reloads of a host: what each did, or why it failed.
    Reloads(OutputArguments),
    /// Load an earlier version or build of a plugin, and hold it there; nothing is rebuilt.
    Rollback(RollbackArguments),
    /// Call a function of a plugin.
    Invoke(InvokeArguments),
    /// Repeat calls in each new version of their plugin, and compare the results.
    Pin {
        /// What to do.
        #[command(subcommand)]
        command: PinCommand,
    },
    /// Show the contents of the Vault.
    Vault(OutputArguments),
    /// Show the live functions and types: what is found by name alone.
    Live(OutputArguments),
    /// Print the host's log.
    Logs(LogsArguments),
    /// Free a retired version.
    Free(FreeArguments),
    /// Show all facts about an artifact; runs none of its code unless `--open` is given.
    Inspect(InspectArguments),
    /// Bring the hosts of this user to what a fleet declares, and report on them, until it is stopped.
    ///
    /// `--host NAME` serves only the hosts of that name.
    Agent(AgentArguments),
    /// Roll a release out to many hosts, judge it, promote it or take it back.
    Fleet(FleetArguments),
    /// Print a script that completes `hotswap` in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages of `hotswap` and `hotswap-console`.
    Man {
        /// The directory that takes them.
        dir: PathBuf,
    },
}

impl Command {
    /// Whether failures are to be told as JSON too.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Completions { .. } | Self::Man { .. } => false,
            Self::New(new) => new.options.output.json,
            Self::Init(init) => init.options.output.json,
            Self::Build(build) => build.output.json,
            Self::Run(run) => run.output.json,
            Self::Hosts(output)
            | Self::Status(output)
            | Self::Vault(output)
            | Self::Live(output)
            | Self::Reloads(output) => output.json,
            Self::Reload(reload) => reload.output.json,
            Self::Rollback(rollback) => rollback.output.json,
            Self::Invoke(invoke) => invoke.output.json,
            Self::Pin { command: PinCommand::List(output) } => output.json,
            Self::Pin { command: PinCommand::Add(pin) } => pin.output.json,
            Self::Pin { command: PinCommand::Remove(pin) } => pin.output.json,
            Self::Logs(logs) => logs.output.json,
            Self::Free(free) => free.output.json,
            Self::Inspect(inspect) => inspect.output.json,
            Self::Agent(agent) => agent.output.json,
            Self::Fleet(fleet) => fleet.output.json,
        }
    }
}

/// How to print the answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArguments {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `hotswap new`.
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false, args = ["dir", "plugin"])]
pub struct NewArguments {
    /// The directory of the new project, named as the project is to be called.
    pub dir: Option<PathBuf>,
    /// Make a plugin of this name in the project of the current directory instead.
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// The host that loads the plugin, if the project has several.
    #[arg(long = "for", value_name = "PACKAGE", requires = "plugin")]
    pub host_package: Option<String>,
    /// What is written, and how.
    #[command(flatten)]
    pub options: ScaffoldArguments,
}

/// Arguments of `hotswap init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The package directory of the program that becomes a host.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// What its first plugin is called.
    #[arg(long, value_name = "NAME", default_value = "greeter")]
    pub plugin: String,
    /// What is written, and how.
    #[command(flatten)]
    pub options: ScaffoldArguments,
}

/// How `hotswap new` and `hotswap init` write.
#[derive(Debug, Args)]
pub struct ScaffoldArguments {
    /// Take Hotswap's crates from this checkout of it. By default: from where the project has them
    /// already, or from the checkout that this program was built from.
    #[arg(long, value_name = "DIR", conflicts_with = "git")]
    pub path: Option<PathBuf>,
    /// Take Hotswap's crates from this git repository.
    #[arg(long, value_name = "URL")]
    pub git: Option<String>,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before files that exist are changed.
    #[arg(long, short)]
    pub yes: bool,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap build`.
#[derive(Debug, Args)]
pub struct BuildArguments {
    /// The plugin's package directory; with `--static-linking` also a host's, for all its plugins.
    pub plugin_dir: PathBuf,
    /// Where the artifact goes, as `<plugin>.so`; with `--static-linking`, the generated crate.
    pub out_dir: PathBuf,
    /// How cargo builds.
    #[command(flatten)]
    pub cargo: CargoArguments,
    /// Build with cargo even if only sources changed, which is slower.
    #[arg(long)]
    pub no_replay: bool,
    /// Count files as sources if this regular expression matches a part of their path in the plugin's package:
    /// what is in them becomes part of the build id.
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// Leave files out again if this regular expression matches a part of their path.
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// With `false`, check the package and compile nothing; `-v` and `--json` show what its sources declare.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub cargo_build: bool,
    /// The prefix of live names in `#[live]` modules, instead of `live_`; with `--static-linking`, it is written to
    /// the `.cargo/config.toml` of OUT_DIR's workspace.
    #[arg(long, value_name = "PREFIX", value_parser = live_prefix)]
    pub live_prefix: Option<String>,
    /// Keep what is usually removed after the build, and say where it is.
    #[arg(long)]
    pub leave_temps: bool,
    /// Show with an error where in this program it was created.
    #[arg(long)]
    pub debug: bool,
    /// Show what was built: which functions changed, and whether a host that runs the build in OUT_DIR could have
    /// it as a patch; commit, functions and types, names that look live and are not, files, and how long each
    /// phase took.
    #[arg(long, short)]
    pub verbose: bool,
    /// Build nothing, but generate in OUT_DIR the crate through which a host links the plugin
    /// statically; what it links already stays.
    #[arg(long)]
    pub static_linking: bool,
    /// Remove what `--static-linking` generated for the plugin.
    #[arg(long, requires = "static_linking")]
    pub clean: bool,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
    /// More flags for cargo.
    #[arg(last = true, value_name = "CARGO FLAGS")]
    pub cargo_flags: Vec<String>,
}

/// Refuses a live prefix that every name begins with, since case and underscores do not count, and one that
/// no name begins with.
fn live_prefix(text: &str) -> Result<String, String> {
    let is_of_names = |letter: char| letter.is_alphanumeric() || letter == '_';
    if text.chars().all(|letter| letter == '_') {
        return Err("it has no letter, so every name begins with it".to_owned());
    }
    match text.chars().all(is_of_names) {
        true => Ok(text.to_owned()),
        false => Err("no name begins with it".to_owned()),
    }
}

/// Arguments of `hotswap run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The host: a cargo package directory, or an executable together with `--plugins`.
    #[arg(value_name = "HOST")]
    pub path: PathBuf,
    /// The directory of artifacts; by default what the host's package says.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// What a save does.
    #[command(flatten)]
    pub watch: WatchArguments,
    /// How cargo builds.
    #[command(flatten)]
    pub cargo: CargoArguments,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
    /// Arguments for the host.
    #[arg(last = true, value_name = "HOST ARGS")]
    pub host_arguments: Vec<String>,
}

/// Cargo's own flags, for the host and, as far as they apply to any package, for its plugins.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Flags of cargo")]
pub struct CargoArguments {
    /// Build with the profile `release`.
    #[arg(long, short, conflicts_with = "profile")]
    release: bool,
    /// Build with this profile.
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Turn these features of the host's package on.
    #[arg(long, short = 'F', value_name = "FEATURES")]
    features: Vec<String>,
    /// Turn all features of the host's package on.
    #[arg(long)]
    all_features: bool,
    /// Turn the default features of the host's package off.
    #[arg(long)]
    no_default_features: bool,
    /// Run this program of the host's package.
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,
    /// Refuse to change `Cargo.lock`.
    #[arg(long)]
    locked: bool,
    /// Do without the network.
    #[arg(long)]
    offline: bool,
    /// Build in this directory.
    #[arg(long, value_name = "DIR")]
    target_dir: Option<String>,
    /// Override a value of cargo's configuration, or read this file of it too.
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<String>,
}

impl CargoArguments {
    /// The directory to build in; `None` for cargo's own choice. A relative one is taken from the
    /// current directory.
    pub fn take_target_dir(&mut self) -> Option<PathBuf> {
        self.target_dir.take().and_then(|dir| std::path::absolute(dir).ok())
    }

    /// The flags as cargo takes them.
    pub fn flags(&self) -> Vec<String> {
        let switches = [
            ("--release", self.release),
            ("--all-features", self.all_features),
            ("--no-default-features", self.no_default_features),
            ("--locked", self.locked),
            ("--offline", self.offline),
        ];
        let switches = switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned());
        let value = |name: &str, value: &String| [name.to_owned(), value.clone()];
        let values = [
            ("--profile", &self.profile),
            ("--bin", &self.bin),
            ("--target-dir", &self.target_dir),
        ];
        let values = values.into_iter().filter_map(|(name, it)| Some(value(name, it.as_ref()?)));
        let features = self.features.iter().map(|it| value("--features", it));
        let configs = self.config.iter().map(|it| value("--config", it));
        switches.chain(values.chain(features).chain(configs).flatten()).collect()
    }
}

/// What a save does.
#[derive(Debug, Clone, Copy, Args)]
pub struct WatchArguments {
    /// What is done when a source changes: build and reload; the same, but ask where that would break
    /// something that is used; only build; or nothing.
    #[arg(long, value_name = "MODE", default_value = "on")]
    watch: Watch,
    /// The same as `--watch=off`.
    #[arg(long, conflicts_with = "watch")]
    no_watch: bool,
    /// Load each build as a whole. Without this, a build in which only bodies of functions changed gives the
    /// version that runs their new code, and the version keeps its state. HOTSWAP_NO_PATCH says the same.
    #[arg(long)]
    no_patch: bool,
    /// Look at the sources again and again, with a pause of so many seconds: for network mounts and
    /// virtual machines, whose file systems do not tell of changes. HOTSWAP_POLL says the same.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    poll: Option<Duration>,
}

/// A number of seconds that is more than none.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim().parse().map_err(|_| "not a number".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("there has to be a pause".to_owned()) } else { Ok(duration) }
}

impl WatchArguments {
    /// Both flags as one.
    pub fn mode(self) -> Watch {
        if self.no_watch { Watch::Off } else { self.watch }
    }

    /// Whether builds are made into patches.
    pub fn patch(self) -> bool {
        !self.no_patch && std::env::var_os(env::NO_PATCH).is_none()
    }

    /// The pause between two looks at the sources; `None` if the file system tells of changes.
    pub fn poll(self) -> Option<Duration> {
        self.poll.or_else(|| seconds(&std::env::var(env::POLL).ok()?).ok())
    }
}

/// Arguments of `hotswap reload`.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Also reload plugins that a rollback holds at an earlier build.
    #[arg(long)]
    pub latest: bool,
    /// Also unload plugins whose artifact is gone; without this they stay loaded.
    #[arg(long)]
    pub prune: bool,
    /// Reload nothing, and tell what a reload would change: the new artifacts are opened in a
    /// process of their own and compared with what is loaded.
    #[arg(long)]
    pub dry_run: bool,
    /// Also make the pinned calls in the new artifacts and in what is loaded, and tell what they give: each
    /// in a process of its own that has nothing of the host, also not its Vault.
    #[arg(long, requires = "dry_run")]
    pub replay: bool,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap rollback`.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    /// `plugin@version`, such as `world@1`, or `plugin@build-id`; six digits of the id are enough.
    pub target: String,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap invoke`.
#[derive(Debug, Args)]
pub struct InvokeArguments {
    /// The plugin, or `plugin@version` for a version that is still loaded.
    pub plugin: String,
    /// The function.
    pub function: String,
    /// Call it so often, one call after the other, and tell how long the calls took.
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REPEAT)))]
    pub repeat: u32,
    /// Call this version too, `plugin@version`, with the same arguments: once after each call of the
    /// first, so that noise hits both alike.
    #[arg(long, value_name = "TARGET")]
    pub beside: Option<String>,
    /// Call this artifact of the plugin too, such as an earlier build, without loading it into the host. It and
    /// what serves are then called in processes of their own, which have nothing of the host, also not its Vault.
    #[arg(long, value_name = "FILE", conflicts_with = "beside")]
    pub beside_artifact: Option<PathBuf>,
    /// The arguments in order. A String parameter takes the text as it is, any other reads JSON.
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// What to do about pinned calls.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// List the pinned calls, with what they give now and gave in the version before.
    List(OutputArguments),
    /// Make a call now, and again in each new version of its plugin.
    Add(PinArguments),
    /// No longer make a call again.
    Remove(UnpinArguments),
}

/// Arguments of `hotswap pin add`.
#[derive(Debug, Args)]
pub struct PinArguments {
    /// The plugin.
    pub plugin: String,
    /// The function; one that its author has marked with `effects` cannot be pinned.
    pub function: String,
    /// The arguments in order. A String parameter takes the text as it is, any other reads JSON.
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap pin remove`.
#[derive(Debug, Args)]
pub struct UnpinArguments {
    /// The number that `hotswap pin list` tells.
    pub id: u64,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Go on printing as records come.
    #[arg(long, short)]
    pub follow: bool,
    /// How many earlier records to print first.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub backlog: usize,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap free`.
#[derive(Debug, Args)]
pub struct FreeArguments {
    /// `plugin@version`, such as `world@1`.
    pub target: String,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The artifact.
    pub file: PathBuf,
    /// Open it too, in a process of its own, and tell what it declares: functions, types, exports
    /// and imports with their schemas.
    #[arg(long)]
    pub open: bool,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Which fleet is meant, and which of its channels.
#[derive(Debug, Clone, Args)]
pub struct PlaceArguments {
    /// The fleet: a name that `hotswap fleet name` has given it, its directory, or the URL of its server. By default
    /// that of `HOTSWAP_FLEET`, else the one of `hotswap fleet use`, or else the directory that this user has in
    /// `$XDG_STATE_HOME/hotswap/fleet`. `./NAME` is a directory and no name.
    #[arg(long, global = true, value_name = "NAME|DIR|URL")]
    pub fleet: Option<PathBuf>,
    /// The NATS server of the fleet, instead of a directory: `nats://HOST:PORT`, or `tls://HOST:PORT`. The fleets of a
    /// server have names of their own after it: `nats://HOST:PORT/NAME`, by default `hotswap`. `HOTSWAP_FLEET` may
    /// name one, too.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "fleet")]
    pub store: Option<String>,
    /// A file with what the server lets this user in by: credentials as `nsc` writes them, the seed of an nkey, or
    /// `USER:PASSWORD`.
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// A file with the certificates that the server's is to be signed by, instead of those of this machine.
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The channel.
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    pub channel: Id,
    /// A secret key that signs what is written; several times for several. By default, where this user has made the
    /// fleet on a server, the one that was made with it.
    #[arg(long, global = true, value_name = "FILE")]
    pub sign: Vec<PathBuf>,
}

/// Arguments of `hotswap agent`.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// Which fleet it serves.
    #[command(flatten)]
    pub place: PlaceArguments,
    /// Let builds be loaded again that have crashed a host of this machine.
    #[arg(long)]
    pub pardon: bool,
    /// What distinguishes the hosts of this agent from those of others, besides their toolchain: each group of hosts
    /// with the same labels has hosts of its own that try a release first. Several times for several; what a host
    /// says of itself is worth more.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Let consoles of other machines attach to the hosts through this agent: whoever may do so on the server can call
    /// functions and load artifacts there.
    #[arg(long)]
    pub attach: bool,
    /// Tell whoever connects metrics of the hosts and the rollout, in the format of Prometheus: at this port of this
    /// machine alone, or at an address that others may reach, too. With port 0 the system chooses one.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = metrics_address)]
    pub metrics: Option<SocketAddr>,
    /// How to print what it does.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Where metrics are told: a port alone is one of this machine.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    local.or_else(|_| text.parse()).map_err(|_| "expected PORT or ADDRESS:PORT".to_owned())
}

/// Arguments of `hotswap fleet`.
#[derive(Debug, Args)]
pub struct FleetArguments {
    /// Which fleet is meant.
    #[command(flatten)]
    pub place: PlaceArguments,
    /// Print JSON.
    #[command(flatten)]
    pub output: FleetOutput,
    /// What to do with it.
    #[command(subcommand)]
    pub command: FleetCommand,
}

/// How to print the answer of each command of a fleet.
#[derive(Debug, Clone, Copy, Args)]
pub struct FleetOutput {
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do with a fleet.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Make a fleet. With `--sign`, these keys are its release keys; on a server without it, one is made.
    Init,
    /// List the keys of the fleet, or change them. As many release keys as have to sign a release sign a change, too:
    /// `--sign`, several times.
    Keys(KeysArguments),
    /// Add a signature to a release. Without a release, sign what the channel declares: for whoever has looked at it,
    /// after the keys have changed.
    Sign {
        /// The release.
        release: Option<Id>,
    },
    /// Keep artifacts as a release: the whole set of plugins that hosts are to run.
    Push(PushArguments),
    /// List the releases.
    Releases,
    /// Try a release on a few hosts, then on more, and judge it. In a directory the agents do it; on a server,
    /// whoever follows it, or a controller.
    Rollout(RolloutArguments),
    /// Show what is declared, how the rollout goes, and what hosts run.
    Status(FleetStatusArguments),
    /// Make the release that is being tried the base of all hosts, whatever is known of it.
    Promote,
    /// Let the rollout wait.
    Pause,
    /// Let a paused rollout go on.
    Resume,
    /// End the rollout: all hosts go back to the base.
    Abort,
    /// Declare an earlier release for all hosts, by default the one before; ends a rollout.
    Rollback {
        /// The release.
        release: Option<Id>,
    },
    /// Have a host run this release, whatever is declared for others.
    Pin {
        /// The host, as `hotswap fleet hosts` lists it.
        #[arg(id = "pinned", value_name = "HOST")]
        host: Id,
        /// The release.
        release: Id,
    },
    /// Let a host run what is declared for all.
    Unpin {
        /// The host.
        #[arg(id = "pinned", value_name = "HOST")]
        host: Id,
    },
    /// List the hosts with what they run and what went wrong.
    Hosts,
    /// Check a release: its signature, and each artifact.
    Verify {
        /// The release.
        release: Id,
    },
    /// List what was done, the oldest first.
    Audit,
    /// Bring the rollouts of a channel on, until it is ended: for a fleet on a server, where agents only tell.
    Controller,
    /// List the names that this user has given to fleets: `$XDG_CONFIG_HOME/hotswap/fleets.toml` keeps them.
    Names,
    /// Give the fleet that `--fleet`, `--store`, `--creds`, `--tls-ca` and `--sign` say a name, for `--fleet NAME`.
    Name {
        /// The name.
        name: Id,
    },
    /// Let a fleet be the one that is meant where none is named.
    Use {
        /// Its name; none any more if it is left out.
        name: Option<Id>,
    },
    /// Take a name away; the fleet stays.
    Forget {
        /// The name.
        name: Id,
    },
}

/// Arguments of `hotswap fleet keys`.
#[derive(Debug, Args)]
pub struct KeysArguments {
    /// Make a key, write its secret part to this file, and let it sign releases.
    #[arg(long, value_name = "FILE")]
    pub new: Option<PathBuf>,
    /// Make a key, write its secret part to this file, and let it choose among signed releases.
    #[arg(long, value_name = "FILE")]
    pub new_director: Option<PathBuf>,
    /// Let this public key, which somebody else has made, sign releases.
    #[arg(long, value_name = "KEY")]
    pub add: Vec<String>,
    /// Let this public key, which somebody else has made, choose among signed releases.
    #[arg(long, value_name = "KEY")]
    pub add_director: Vec<String>,
    /// Retire this public key, for good.
    #[arg(long, value_name = "KEY")]
    pub remove: Vec<String>,
    /// How many of the release keys have to sign a release, or a change of the keys.
    #[arg(long, value_name = "COUNT")]
    pub threshold: Option<usize>,
    /// Make a key, write its secret part to this file, and print its public part, for whoever may add it: the fleet is
    /// as it was.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["new", "new_director", "add", "add_director", "remove", "threshold"]
    )]
    pub generate: Option<PathBuf>,
}

/// Arguments of `hotswap fleet push`.
#[derive(Debug, Args)]
pub struct PushArguments {
    /// Artifacts, or directories of artifacts.
    #[arg(required = true, value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// What the release is called; by default a name is made of its content.
    #[arg(long, value_name = "NAME")]
    pub id: Option<Id>,
}

/// Arguments of `hotswap fleet rollout`.
#[derive(Debug, Args)]
pub struct RolloutArguments {
    /// The release.
    pub release: Id,
    /// Wait until it is over or paused, and tell how it goes.
    #[arg(long)]
    pub follow: bool,
    /// Go on after seconds and few calls: to try out.
    #[arg(long)]
    pub fast: bool,
    /// Take the place of a rollout that is under way.
    #[arg(long)]
    pub supersede: bool,
    /// Wait until the rollout that is under way is over, and begin then.
    #[arg(long, conflicts_with = "supersede")]
    pub queue: bool,
}

/// Arguments of `hotswap fleet status`.
#[derive(Debug, Args)]
pub struct FleetStatusArguments {
    /// Show it again whenever it changes.
    #[arg(long)]
    pub watch: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
