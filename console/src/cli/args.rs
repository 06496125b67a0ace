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
    /// The host to talk to: its name, its process id or its socket. By default, the host that runs in the project
    /// of the current directory, or else the only host that runs.
    #[arg(long, global = true, value_name = "NAME|PID|SOCKET")]
    pub host: Option<HostChoice>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands that do not use a host, so `--host` has no meaning for them.
const WITHOUT_HOST: [&str; 8] =
    ["new", "init", "build", "run", "hosts", "fleet", "completions", "man"];

impl Arguments {
    /// The command line. Commands without a use for `--host` do not show it in their help, but accept it.
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
    /// Make a new project, or add a plugin to the project of the current directory.
    New(NewArguments),
    /// Add Hotswap and a first plugin to an existing package.
    Init(InitArguments),
    /// Build a plugin and put its artifact into a directory; prints the artifact's path last.
    Build(BuildArguments),
    /// Build a host and its plugins, run it, and reload what changes. Prints one line for each event.
    Run(RunArguments),
    /// List the running hosts.
    Hosts(OutputArguments),
    /// Show the plugins and versions of a host.
    Status(OutputArguments),
    /// Reload the plugins whose artifact changed.
    Reload(ReloadArguments),
    /// Show the last reloads of a host: what each did, or why it failed.
    Reloads(OutputArguments),
    /// Load an earlier version or build of a plugin, and keep the plugin there; nothing is rebuilt.
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
    /// Show the live functions and types, which hosts find by name alone.
    Live(OutputArguments),
    /// Print the host's log.
    Logs(LogsArguments),
    /// Free a retired version.
    Free(FreeArguments),
    /// Show all facts about an artifact; runs none of its code unless `--open` is given.
    Inspect(InspectArguments),
    /// Load the releases that a fleet declares into the hosts of this user, and report on them, until stopped.
    ///
    /// `--host NAME` serves only the hosts of that name.
    Agent(AgentArguments),
    /// Roll a release out to many hosts, judge it, and promote it or roll it back.
    Fleet(FleetArguments),
    /// Print a script that completes `hotswap` in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages of `hotswap` and `hotswap-console`.
    Man {
        /// The directory for the pages.
        dir: PathBuf,
    },
}

impl Command {
    /// Whether failures should be printed as JSON, too.
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
    /// The directory of the new project. Its name becomes the name of the project.
    pub dir: Option<PathBuf>,
    /// Make a plugin of this name in the project of the current directory instead.
    #[arg(long, value_name = "NAME")]
    pub plugin: Option<String>,
    /// The host that loads the plugin, if the project has several.
    #[arg(long = "for", value_name = "PACKAGE", requires = "plugin")]
    pub host_package: Option<String>,
    /// The options for writing.
    #[command(flatten)]
    pub options: ScaffoldArguments,
}

/// Arguments of `hotswap init`.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The package directory of the program that becomes a host.
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The name of its first plugin.
    #[arg(long, value_name = "NAME", default_value = "greeter")]
    pub plugin: String,
    /// The options for writing.
    #[command(flatten)]
    pub options: ScaffoldArguments,
}

/// Options of `hotswap new` and `hotswap init`.
#[derive(Debug, Args)]
pub struct ScaffoldArguments {
    /// Take Hotswap's crates from this checkout. By default: from where the project has them
    /// already, or from the checkout that this program was built from.
    #[arg(long, value_name = "DIR", conflicts_with = "git")]
    pub path: Option<PathBuf>,
    /// Take Hotswap's crates from this git repository.
    #[arg(long, value_name = "URL")]
    pub git: Option<String>,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Change existing files without asking.
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
    /// The directory for the artifact, `<plugin>.so`; with `--static-linking`, for the generated crate.
    pub out_dir: PathBuf,
    /// The flags for cargo.
    #[command(flatten)]
    pub cargo: CargoArguments,
    /// Build with cargo even if only sources changed, which is slower.
    #[arg(long)]
    pub no_replay: bool,
    /// Also count files as sources whose path in the plugin's package matches this regular expression:
    /// their content becomes part of the build id.
    #[arg(long, value_name = "REGEX")]
    pub include: Vec<String>,
    /// Do not count included files whose path matches this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub exclude: Vec<String>,
    /// With `false`, check the package and compile nothing; `-v` and `--json` show what its sources declare.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value_t = true)]
    pub cargo_build: bool,
    /// The prefix of live names in `#[live]` modules, instead of `live_`; with `--static-linking`, it is written
    /// to the `.cargo/config.toml` of OUT_DIR's workspace.
    #[arg(long, value_name = "PREFIX", value_parser = live_prefix)]
    pub live_prefix: Option<String>,
    /// Keep the temporary files of the build, and print their place.
    #[arg(long)]
    pub leave_temps: bool,
    /// Print a backtrace with an error.
    #[arg(long)]
    pub debug: bool,
    /// Show details: the functions that changed, whether a host that runs the build in OUT_DIR could load this
    /// build as a patch, the commit, functions and types, names that look live but are not, files, and how long
    /// each phase took.
    #[arg(long, short)]
    pub verbose: bool,
    /// Do not build, but generate in OUT_DIR the crate through which a host links the plugin statically. Plugins
    /// that the crate already links stay.
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

/// Refuses a live prefix without letters, which every name would begin with because case and underscores do not
/// count, and one that no name can begin with.
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
    /// The directory of artifacts; by default the one that the host's package names.
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// The options for saves.
    #[command(flatten)]
    pub watch: WatchArguments,
    /// The flags for cargo.
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
    /// Run this example of the host's package.
    #[arg(long, value_name = "NAME", conflicts_with = "bin")]
    example: Option<String>,
    /// Refuse to change `Cargo.lock`.
    #[arg(long)]
    locked: bool,
    /// Do not use the network.
    #[arg(long)]
    offline: bool,
    /// The same as `--locked` and `--offline`.
    #[arg(long)]
    frozen: bool,
    /// Run at most this many compilers at a time.
    #[arg(long, short, value_name = "N", allow_hyphen_values = true)]
    jobs: Option<String>,
    /// Build for this platform.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Build in this directory.
    #[arg(long, value_name = "DIR")]
    target_dir: Option<String>,
    /// Override a value of cargo's configuration, or read another configuration file.
    #[arg(long, value_name = "KEY=VALUE|PATH")]
    config: Vec<String>,
}

impl CargoArguments {
    /// Takes the target directory out of the flags; `None` if cargo chooses it. A relative path is relative to the
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
            ("--frozen", self.frozen),
        ];
        let switches = switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned());
        let value = |name: &str, value: &String| [name.to_owned(), value.clone()];
        let values = [
            ("--profile", &self.profile),
            ("--bin", &self.bin),
            ("--example", &self.example),
            ("--jobs", &self.jobs),
            ("--target", &self.target),
            ("--target-dir", &self.target_dir),
        ];
        let values = values.into_iter().filter_map(|(name, it)| Some(value(name, it.as_ref()?)));
        let features = self.features.iter().map(|it| value("--features", it));
        let configs = self.config.iter().map(|it| value("--config", it));
        switches.chain(values.chain(features).chain(configs).flatten()).collect()
    }
}

/// The options for saves.
#[derive(Debug, Clone, Copy, Args)]
pub struct WatchArguments {
    /// The reaction to a changed source: build and reload; the same, but ask if that would break
    /// something that is used; only build; or nothing.
    #[arg(long, value_name = "MODE", default_value = "on")]
    watch: Watch,
    /// The same as `--watch=off`.
    #[arg(long, conflicts_with = "watch")]
    no_watch: bool,
    /// Always load whole builds. Without this flag, a build in which only bodies of functions changed is loaded as
    /// a patch: the running version gets the new code and keeps its state. HOTSWAP_NO_PATCH has the same effect.
    #[arg(long)]
    no_patch: bool,
    /// Scan the sources for changes, with a pause of this many seconds: for network mounts and
    /// virtual machines, whose file systems do not report changes. HOTSWAP_POLL has the same effect.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    poll: Option<Duration>,
}

/// A number of seconds above 0.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.trim().parse().map_err(|_| "not a number".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("there has to be a pause".to_owned()) } else { Ok(duration) }
}

impl WatchArguments {
    /// The mode that the two flags choose.
    pub fn mode(self) -> Watch {
        if self.no_watch { Watch::Off } else { self.watch }
    }

    /// Whether builds are made into patches.
    pub fn patch(self) -> bool {
        !self.no_patch && std::env::var_os(env::NO_PATCH).is_none()
    }

    /// The pause between two scans of the sources; `None` if the file system reports changes.
    pub fn poll(self) -> Option<Duration> {
        self.poll.or_else(|| seconds(&std::env::var(env::POLL).ok()?).ok())
    }
}

/// Arguments of `hotswap reload`.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Also reload plugins that a rollback keeps at an earlier build.
    #[arg(long)]
    pub latest: bool,
    /// Also unload plugins whose artifact is gone. Otherwise they stay loaded.
    #[arg(long)]
    pub prune: bool,
    /// Do not reload, but show what a reload would change: the new artifacts are opened in a
    /// process of their own and compared with what is loaded.
    #[arg(long)]
    pub dry_run: bool,
    /// Also make the pinned calls in the new artifacts and in the loaded ones, and compare the results. Each call
    /// runs in a process of its own, without the host and its Vault.
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
    /// Call it this many times, one call after the other, and show the latencies.
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REPEAT)))]
    pub repeat: u32,
    /// Also call this version, `plugin@version`, with the same arguments: once after each call of the
    /// first version, so that noise affects both alike.
    #[arg(long, value_name = "TARGET")]
    pub beside: Option<String>,
    /// Also call this artifact of the plugin, such as an earlier build, without loading it into the host. It and
    /// the serving version are then called in processes of their own, without the host and its Vault.
    #[arg(long, value_name = "FILE", conflicts_with = "beside")]
    pub beside_artifact: Option<PathBuf>,
    /// The arguments in order. A String parameter takes the text as it is; for any other type the text is read as
    /// JSON.
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// The subcommands of `hotswap pin`.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// List the pinned calls, with their results now and in the version before.
    List(OutputArguments),
    /// Make a call now, and again in each new version of its plugin.
    Add(PinArguments),
    /// Stop repeating a call.
    Remove(UnpinArguments),
}

/// Arguments of `hotswap pin add`.
#[derive(Debug, Args)]
pub struct PinArguments {
    /// The plugin.
    pub plugin: String,
    /// The function; one that its author has marked with `effects` cannot be pinned.
    pub function: String,
    /// The arguments in order. A String parameter takes the text as it is; for any other type the text is read as
    /// JSON.
    #[arg(allow_negative_numbers = true)]
    pub args: Vec<String>,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap pin remove`.
#[derive(Debug, Args)]
pub struct UnpinArguments {
    /// The number that `hotswap pin list` shows.
    pub id: u64,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// Arguments of `hotswap logs`.
#[derive(Debug, Args)]
pub struct LogsArguments {
    /// Keep printing new records.
    #[arg(long, short)]
    pub follow: bool,
    /// The number of earlier records to print first.
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
    /// Also open it, in a process of its own, and show what it declares: functions, types, exports
    /// and imports with their schemas.
    #[arg(long)]
    pub open: bool,
    /// How to print the answer.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// The fleet, and one of its channels.
#[derive(Debug, Clone, Args)]
pub struct PlaceArguments {
    /// The fleet: its name (`hotswap fleet name`), its directory, or the URL of its server. By default the one in
    /// `HOTSWAP_FLEET`, else the one of `hotswap fleet use`, or else this user's directory
    /// `$XDG_STATE_HOME/hotswap/fleet`. `./NAME` is a directory and not a name.
    #[arg(long, global = true, value_name = "NAME|DIR|URL")]
    pub fleet: Option<PathBuf>,
    /// The NATS server of the fleet, instead of a directory: `nats://HOST:PORT`, or `tls://HOST:PORT`. If a server
    /// has several fleets, add the name of one: `nats://HOST:PORT/NAME`; the default is `hotswap`. `HOTSWAP_FLEET`
    /// can contain a server, too.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "fleet")]
    pub store: Option<String>,
    /// A file with the credentials for the server: as `nsc` writes them, the seed of an nkey, or
    /// `USER:PASSWORD`.
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// A file with the CA certificates for the server, instead of those of this machine.
    #[arg(long, global = true, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The channel.
    #[arg(long, global = true, value_name = "NAME", default_value = "main")]
    pub channel: Id,
    /// A file with a secret key for signing; may be given several times. If this user has made the fleet on a
    /// server, the default is the key that was made with it.
    #[arg(long, global = true, value_name = "FILE")]
    pub sign: Vec<PathBuf>,
}

/// Arguments of `hotswap agent`.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// The fleet that it serves.
    #[command(flatten)]
    pub place: PlaceArguments,
    /// Allow builds again that have crashed a host of this machine.
    #[arg(long)]
    pub pardon: bool,
    /// A label of the hosts of this agent; may be given several times. Hosts with the same labels and the same
    /// toolchain form a group, and each group tries a release on hosts of its own first. A label that a host sets
    /// itself takes precedence.
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// Let consoles of other machines attach to the hosts through this agent. A user with access to the server can
    /// then call functions and load artifacts in these hosts.
    #[arg(long)]
    pub attach: bool,
    /// Serve metrics of the hosts and the rollout in the format of Prometheus: at this port, for programs of this
    /// machine only, or at this address, which others may reach. With port 0 the system chooses one.
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = metrics_address)]
    pub metrics: Option<SocketAddr>,
    /// How to print its news.
    #[command(flatten)]
    pub output: OutputArguments,
}

/// The address for metrics. A port alone means the loopback address.
fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let local = text.parse().map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    local.or_else(|_| text.parse()).map_err(|_| "expected PORT or ADDRESS:PORT".to_owned())
}

/// Arguments of `hotswap fleet`.
#[derive(Debug, Args)]
pub struct FleetArguments {
    /// The fleet.
    #[command(flatten)]
    pub place: PlaceArguments,
    /// Print JSON.
    #[command(flatten)]
    pub output: FleetOutput,
    /// The subcommand.
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

/// The subcommands of `hotswap fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Make a fleet. Keys given with `--sign` become its release keys. On a server, a key is made if none is
    /// given.
    Init {
        /// Where: a directory, or the URL of a server, as with `--fleet` and `--store`.
        #[arg(value_name = "DIR|URL", conflicts_with_all = ["fleet", "store"])]
        at: Option<PathBuf>,
    },
    /// List the keys of the fleet, or change them. A change needs as many signatures as a release: repeat
    /// `--sign` for each key.
    Keys(KeysArguments),
    /// Add a signature to a release. Without a release, sign the declaration of the channel again after the keys
    /// have changed; review it first.
    Sign {
        /// The release.
        release: Option<Id>,
    },
    /// Store artifacts as a release: the whole set of plugins for hosts.
    Push(PushArguments),
    /// List the releases.
    Releases,
    /// Try a release on a few hosts, then on more, and judge it. Agents take its steps if the fleet is in a
    /// directory; on a server, `--follow` or `hotswap fleet controller` does.
    Rollout(RolloutArguments),
    /// Show the declaration, the progress of the rollout, and what hosts run.
    Status(FleetStatusArguments),
    /// Make the release under trial the base of all hosts, whatever the evidence says.
    Promote,
    /// Pause the rollout.
    Pause,
    /// Continue a paused rollout.
    Resume,
    /// End the rollout: all hosts go back to the base.
    Abort,
    /// Declare an earlier release for all hosts, by default the last one before; ends a rollout.
    Rollback {
        /// The release.
        release: Option<Id>,
    },
    /// Pin a host to a release, whatever is declared for other hosts.
    Pin {
        /// The host, as `hotswap fleet hosts` lists it.
        #[arg(id = "pinned", value_name = "HOST")]
        host: Id,
        /// The release.
        release: Id,
    },
    /// Remove the pin of a host, which then runs what is declared for all.
    Unpin {
        /// The host.
        #[arg(id = "pinned", value_name = "HOST")]
        host: Id,
    },
    /// List the hosts, with what they run and their problems.
    Hosts,
    /// Verify a release: its signatures, and each artifact.
    Verify {
        /// The release.
        release: Id,
    },
    /// Print the audit log, the oldest entry first.
    Audit,
    /// Take the steps of the rollouts of a channel, until stopped: for a fleet on a server, where agents only
    /// report.
    Controller,
    /// List the fleets that this user has named. They are stored in `$XDG_CONFIG_HOME/hotswap/fleets.toml`.
    Names,
    /// Give the fleet of `--fleet`, `--store`, `--creds`, `--tls-ca` and `--sign` a name, for use as `--fleet
    /// NAME`.
    Name {
        /// The name.
        name: Id,
    },
    /// Choose the default fleet for commands that name none.
    Use {
        /// Its name. Without a name, there is no default any more.
        name: Option<Id>,
    },
    /// Remove a name; the fleet itself stays.
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
    /// Let this public key of somebody else sign releases.
    #[arg(long, value_name = "KEY")]
    pub add: Vec<String>,
    /// Let this public key of somebody else choose among signed releases.
    #[arg(long, value_name = "KEY")]
    pub add_director: Vec<String>,
    /// Retire this public key for ever.
    #[arg(long, value_name = "KEY")]
    pub remove: Vec<String>,
    /// How many of the release keys have to sign a release, or a change of the keys.
    #[arg(long, value_name = "COUNT")]
    pub threshold: Option<usize>,
    /// Make a key, write its secret part to this file, and print its public part, which a holder of the present
    /// keys can add. The fleet does not change.
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
    /// The name of the release; by default a name is derived from its content.
    #[arg(long, value_name = "NAME")]
    pub id: Option<Id>,
}

/// Arguments of `hotswap fleet rollout`.
#[derive(Debug, Args)]
pub struct RolloutArguments {
    /// The release.
    pub release: Id,
    /// Wait until it is over or paused, and show its progress.
    #[arg(long)]
    pub follow: bool,
    /// Take each step after seconds and few calls, to try rollouts out.
    #[arg(long)]
    pub fast: bool,
    /// End the rollout that is under way, and begin this one.
    #[arg(long)]
    pub supersede: bool,
    /// Wait until the rollout that is under way is over, then begin.
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::CargoArguments;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        cargo: CargoArguments,
    }

    #[test]
    fn flags_are_passed_to_cargo() {
        let line = "-r --frozen --bin tool -j -1 --target=x86_64-unknown-linux-gnu -F a --config net.offline=true";
        let line = Line::parse_from(["run"].into_iter().chain(line.split(' ')));
        let expected = "--release --frozen --bin tool --jobs -1 --target x86_64-unknown-linux-gnu --features a \
                        --config net.offline=true";
        assert_eq!(line.cargo.flags().join(" "), expected);
    }
}
