//! `hotswap` as a script sees it: what it prints and how it exits.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use hotswap_protocol::{HostInfo, LogLevel, PlanParams, Request, TargetParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::fake_host::FakeHost;
use crate::support::samples;

fn hotswap(runtime_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotswap"));
    command.args(args).env("XDG_RUNTIME_DIR", runtime_dir).stdin(Stdio::null());
    command
}

async fn output(runtime_dir: &TempDir, args: &[&str]) -> Output {
    hotswap(runtime_dir.path(), args).output().await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn stdout_as_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn status_prints_the_snapshot_of_the_only_host() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    let output = output(&runtime, &["status", "--json"]).await;
    assert!(output.status.success());
    let status = stdout_as_json(&output);
    assert_eq!(status["host"]["pid"], 41);
    assert_eq!(status["generation"], 3);
    assert_eq!(status["plugins"][0]["name"], "world");
    assert_eq!(status["plugins"][0]["versions"][0]["state"], "active");
}

#[tokio::test]
async fn status_in_words_is_a_table() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    insta::assert_snapshot!(stdout(&output(&runtime, &["status"]).await));
}

#[tokio::test]
async fn vault_in_words() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    insta::assert_snapshot!(stdout(&output(&runtime, &["vault"]).await));
}

#[tokio::test]
async fn live_in_words_and_as_json() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    insta::assert_snapshot!(stdout(&output(&runtime, &["live"]).await));
    let live = stdout_as_json(&output(&runtime, &["live", "--json"]).await);
    assert_eq!(live, serde_json::to_value(samples::live()).unwrap());
}

#[tokio::test]
async fn a_dry_run_that_cannot_open_an_artifact_says_which_and_fails() {
    let runtime = tempfile::tempdir().unwrap();
    let host = FakeHost::listen(runtime.path(), 41);
    let words = output(&runtime, &["reload", "--dry-run"]).await;
    assert_eq!(words.status.code(), Some(1));
    insta::assert_snapshot!(stdout(&words));
    let json = output(&runtime, &["reload", "--dry-run", "--json", "--latest"]).await;
    let error = &stdout_as_json(&json)["error"];
    assert_eq!(error["plugin"], "world");
    assert!(error["message"].as_str().unwrap().contains("No such file"), "{error}");
    let requests = host.requests();
    assert!(
        requests.contains(&Request::Plan(PlanParams { latest: true, ..PlanParams::default() })),
        "{requests:?}"
    );
    assert!(!requests.iter().any(|it| matches!(it, Request::Reload | Request::ReloadLatest)));
}

#[tokio::test]
async fn reload_prints_the_outcome_of_each_plugin() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    let report = stdout_as_json(&output(&runtime, &["reload", "--json"]).await);
    assert_eq!(report["generation"], 4);
    assert_eq!(report["plugins"][0]["name"], "world");
    assert_eq!(report["plugins"][0]["outcome"], "ok");
    assert_eq!(report["plugins"][1]["outcome"], "unchanged");
}

#[tokio::test]
async fn reload_replaces_a_held_plugin_only_on_request() {
    let runtime = tempfile::tempdir().unwrap();
    let host = FakeHost::listen(runtime.path(), 41);
    output(&runtime, &["reload"]).await;
    assert_eq!(host.requests().last(), Some(&Request::Reload));
    output(&runtime, &["reload", "--latest"]).await;
    assert_eq!(host.requests().last(), Some(&Request::ReloadLatest));
}

#[tokio::test]
async fn rollback_prints_the_same_as_reload_and_says_why_it_was_refused() {
    let runtime = tempfile::tempdir().unwrap();
    let host = FakeHost::listen(runtime.path(), 41);
    let done = output(&runtime, &["rollback", "world@1", "--json"]).await;
    assert!(done.status.success());
    assert_eq!(stdout_as_json(&done)["plugins"][0]["outcome"], "ok");
    let target = TargetParams { target: "world@1".into() };
    assert_eq!(host.requests().last(), Some(&Request::Rollback(target)));

    let refused = output(&runtime, &["rollback", "world@9", "--json"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let error = serde_json::to_value(samples::refusal()).unwrap();
    assert_eq!(stdout_as_json(&refused), json!({ "error": error }));
}

#[tokio::test]
async fn invoke_sends_arguments_whose_types_the_host_checks() {
    let runtime = tempfile::tempdir().unwrap();
    let host = FakeHost::listen(runtime.path(), 41);
    let args = ["invoke", "world@3", "greet", "42", "-2", "--json"];
    let answer = stdout_as_json(&output(&runtime, &args).await);
    assert_eq!(
        answer,
        json!({"value": "Hello, Ada! Hello, Ada!", "plugin": "world", "version": 3, "elapsed_us": 8, "elapsed_ns": 8_200})
    );
    let requests = host.requests();
    let Some(Request::Invoke(params)) = requests.last() else { panic!("{requests:?}") };
    assert_eq!(params.plugin, "world@3");
    assert_eq!(params.args, [json!("42"), json!("-2")]);
    assert!(params.lenient);
}

#[tokio::test]
async fn a_failure_is_reported_as_text_or_json_and_by_the_exit_code() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);

    let words = output(&runtime, &["invoke", "world", "nothing"]).await;
    assert_eq!(words.status.code(), Some(1));
    assert_eq!(stdout(&words), "");
    assert_eq!(stderr(&words), "hotswap: world v3 has no function `nothing`\n");

    let as_json = output(&runtime, &["invoke", "world", "nothing", "--json"]).await;
    assert_eq!(as_json.status.code(), Some(1));
    assert_eq!(
        stdout_as_json(&as_json),
        json!({"error": {"kind": "unknown_function", "message": "world v3 has no function `nothing`"}})
    );
}

#[tokio::test]
async fn free_prints_the_new_state_of_the_version() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    let result = stdout_as_json(&output(&runtime, &["free", "world@1", "--json"]).await);
    assert_eq!(result["state"], "freed");
    assert_eq!(result["holders"], json!([]));
    let held = output(&runtime, &["free", "world@2"]).await;
    assert_eq!(held.status.code(), Some(1), "{}", stderr(&held));
    assert!(stdout(&held).contains("held by call of greet"), "{}", stdout(&held));
    assert_eq!(stderr(&held), "", "the answer is on stdout only");
}

#[tokio::test]
async fn without_a_host_the_exit_code_is_3() {
    let runtime = tempfile::tempdir().unwrap();
    let none = output(&runtime, &["status", "--json"]).await;
    assert_eq!(none.status.code(), Some(3));
    assert_eq!(stdout_as_json(&none)["error"]["kind"], "no_host");

    let gone = output(&runtime, &["--host", "/nowhere/1.sock", "status"]).await;
    assert_eq!(gone.status.code(), Some(3));
    assert!(stderr(&gone).contains("/nowhere/1.sock"), "{}", stderr(&gone));
}

#[tokio::test]
async fn with_several_hosts_one_must_be_chosen() {
    let runtime = tempfile::tempdir().unwrap();
    let _one = FakeHost::listen(runtime.path(), 41);
    let two = FakeHost::listen(runtime.path(), 42);

    let unclear = output(&runtime, &["status"]).await;
    assert_eq!(unclear.status.code(), Some(3));
    assert!(stderr(&unclear).contains("41"), "{}", stderr(&unclear));
    assert!(stderr(&unclear).contains("--host"), "{}", stderr(&unclear));

    let by_pid = output(&runtime, &["status", "--json", "--host", "42"]).await;
    assert_eq!(stdout_as_json(&by_pid)["host"]["pid"], 42);
    let socket = two.socket.to_str().unwrap();
    let by_socket = output(&runtime, &["--host", socket, "status", "--json"]).await;
    assert_eq!(stdout_as_json(&by_socket)["host"]["pid"], 42);
}

#[tokio::test]
async fn hosts_lists_the_hosts_that_answer() {
    let runtime = tempfile::tempdir().unwrap();
    assert_eq!(stdout_as_json(&output(&runtime, &["hosts", "--json"]).await), json!([]));
    let _one = FakeHost::listen(runtime.path(), 41);
    let _two = FakeHost::listen(runtime.path(), 42);
    let hosts = stdout_as_json(&output(&runtime, &["hosts", "--json"]).await);
    assert_eq!(
        hosts[0],
        json!({
            "pid": 41, "name": "sample-host", "socket": "/run/hotswap/41.sock",
            "plugin_dir": "/srv/plugins", "staging_dir": "/srv/staging",
        })
    );
    assert_eq!(hosts[1]["pid"], 42);
}

#[tokio::test]
async fn logs_prints_the_backlog_and_ends() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    let words = stdout(&output(&runtime, &["logs"]).await);
    assert_eq!(
        words,
        "12:00:01.000 INFO  sample_host::http listening\n\
         -- 4 records dropped\n\
         12:00:06.000 WARN  sample_host::http slow request\n"
    );
    let as_json = stdout(&output(&runtime, &["logs", "--json"]).await);
    let first: Value = serde_json::from_str(as_json.lines().next().unwrap()).unwrap();
    let record = samples::record(1, LogLevel::Info, "listening");
    assert_eq!(first, serde_json::to_value(record).unwrap());
}

#[tokio::test]
async fn the_option_host_is_offered_only_by_commands_that_connect_to_a_host() {
    let runtime = tempfile::tempdir().unwrap();
    for (args, is_told) in [
        (&["status", "--help"][..], true),
        (&["inspect", "--help"], true),
        (&["agent", "--help"], true),
        (&["new", "--help"], false),
        (&["build", "--help"], false),
        (&["hosts", "--help"], false),
        (&["fleet", "--help"], false),
        (&["fleet", "audit", "--help"], false),
    ] {
        let help = stdout(&output(&runtime, args).await);
        assert_eq!(help.contains("--host"), is_told, "{args:?}: {help}");
    }
    // The option is still accepted.
    let hosts = output(&runtime, &["hosts", "--host", "41", "--json"]).await;
    assert_eq!(stdout(&hosts), "[]\n", "{}", stderr(&hosts));
    assert!(stdout(&output(&runtime, &["--host", "41", "hosts", "--json"]).await) == "[]\n");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let runtime = tempfile::tempdir().unwrap();
    let _host = FakeHost::listen(runtime.path(), 41);
    let mut child = hotswap(runtime.path(), &["status"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
}

#[tokio::test]
async fn all_plugins_of_a_host_are_linked_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-host");
    let links = directory.path().join("links");
    let args = ["build", "--static-linking", host.to_str().unwrap(), links.to_str().unwrap()];
    let linked = output(&directory, &[&args[..], &["--json"]].concat()).await;
    assert!(linked.status.success(), "{}", stderr(&linked));
    let plugins = ["alpha", "beta", "cat", "dog", "gamma", "guardian", "world"];
    assert_eq!(stdout_as_json(&linked)["plugins"], json!(plugins));
    let removed = output(&directory, &[&args[..], &["--clean", "--json"]].concat()).await;
    assert_eq!(stdout_as_json(&removed)["plugins"], json!([]));
    assert!(!links.exists());
}

#[tokio::test]
async fn inspect_shows_everything_about_an_artifact() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-plugins/world");
    let args = ["build", plugin.to_str().unwrap(), directory.path().to_str().unwrap()];
    let built = output(&directory, &args).await;
    assert!(built.status.success(), "{}", stderr(&built));
    let path = stdout(&built).lines().last().unwrap().to_owned();

    let facts = stdout_as_json(&output(&directory, &["inspect", &path, "--json"]).await);
    assert_eq!(facts["name"], "world");
    assert_eq!(facts["path"], path.as_str());
    assert_eq!(facts["size_bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(facts["build_id"].as_str().unwrap().len(), 32);
    assert_eq!((&facts["fits"], &facts["misfit"]), (&json!(true), &json!(null)));
    assert_eq!(facts["keep_reason"], json!(null));
    assert!(facts["toolchain"]["rustc"].as_str().unwrap().starts_with("rustc 1."));
    let words = stdout(&output(&directory, &["inspect", &path]).await);
    assert!(words.contains(facts["build_id"].as_str().unwrap()), "{words}");
    assert!(words.contains("unmaps    yes\n"), "{words}");

    let mut cut_short = std::fs::read(&path).unwrap();
    cut_short.truncate(cut_short.len() / 2);
    let broken = directory.path().join("broken.so");
    std::fs::write(&broken, cut_short).unwrap();
    let refused = output(&directory, &["inspect", broken.to_str().unwrap()]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("broken.so: "), "{}", stderr(&refused));
    // It prints the facts that it could read.
    let words = stdout(&refused);
    assert!(words.contains("plugin    world "), "{words}");
    assert!(words.contains("unmaps    no: the file is broken\n"), "{words}");
}

#[tokio::test]
async fn inspect_checks_the_artifact_against_the_chosen_host() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-plugins/world");
    let args = ["build", plugin.to_str().unwrap(), directory.path().to_str().unwrap()];
    let path = stdout(&output(&directory, &args).await).lines().last().unwrap().to_owned();
    let inspect = async |host: &[&str]| {
        let args = [host, &["inspect", &path]].concat();
        let json = stdout_as_json(&output(&directory, &[&args[..], &["--json"]].concat()).await);
        (json, stdout(&output(&directory, &args).await))
    };

    let (facts, words) = inspect(&[]).await;
    assert_eq!(facts["judged_by"]["host"], json!(null));
    assert!(words.contains("judged by this program, since no host was chosen"), "{words}");

    // The toolchain is that of the artifact, except for the panic strategy.
    let mut built_by = hotswap_artifact::own_toolchain();
    built_by.panic_strategy = "abort".into();
    let socket = directory.path().join("aborting.sock");
    let info = HostInfo { built_by: Some(built_by), ..samples::host(41) };
    let _aborting = FakeHost::listen_as(socket.clone(), info);
    let (facts, words) = inspect(&["--host", socket.to_str().unwrap()]).await;
    assert_eq!((&facts["fits"], &facts["judged_by"]["pid"]), (&json!(false), &json!(41)));
    assert_eq!(facts["judged_by"]["toolchain"]["panic_strategy"], "abort");
    let misfit = facts["misfit"].as_str().unwrap();
    assert!(misfit.contains("the plugin has unwind, the host abort"), "{misfit}");
    assert!(misfit.contains("`[profile.hotswap]`"), "{misfit}");
    assert!(words.contains("judged by sample-host (pid 41)\n"), "{words}");

    let socket = directory.path().join("older.sock");
    let info = HostInfo { built_by: None, ..samples::host(42) };
    let _older = FakeHost::listen_as(socket.clone(), info);
    let (facts, words) = inspect(&["--host", socket.to_str().unwrap()]).await;
    assert_eq!((&facts["fits"], &facts["judged_by"]["host"]), (&json!(true), &json!(null)));
    assert!(words.contains("since sample-host does not report its toolchain"), "{words}");

    let nobody = output(&directory, &["--host", "nobody", "inspect", &path]).await;
    assert_eq!(nobody.status.code(), Some(3));
}

#[tokio::test]
async fn a_dry_run_reports_an_artifact_that_only_this_program_cannot_open() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sample-plugins/world");
    let args = ["build", plugin.to_str().unwrap(), directory.path().to_str().unwrap()];
    let path = stdout(&output(&directory, &args).await).lines().last().unwrap().to_owned();
    // The artifact claims another compiler release, which the host has too.
    let mut artifact = std::fs::read(&path).unwrap();
    let magic = artifact.windows(14).position(|bytes| bytes == b"HOTSWAP-PLUGIN").unwrap();
    artifact[magic + 24..magic + 27].copy_from_slice(b"0.9");
    hotswap_artifact::stamp(&mut artifact, None).unwrap();
    std::fs::write(&path, &artifact).unwrap();

    let mut plan = samples::plan();
    let new = plan.plugins[0].new.as_mut().unwrap();
    new.path = path.into();
    new.build_id = hotswap_artifact::inspect(&artifact).unwrap().build_id.to_string();
    plan.plugins[0].loaded.as_mut().unwrap().path = None;
    let socket = directory.path().join("other.sock");
    let _host = FakeHost::listen_planning(socket.clone(), samples::host(41), plan);
    let args = ["--host", socket.to_str().unwrap(), "reload", "--dry-run"];
    let words = output(&directory, &args).await;
    assert!(words.status.success(), "{}", stderr(&words));
    let json = stdout_as_json(&output(&directory, &[&args[..], &["--json"]].concat()).await);
    let why = json["plugins"][0]["not_compared"]["message"].as_str().unwrap();
    assert!(why.contains("its rustc is rustc 0.9"), "{why}");
    assert_eq!(json["plugins"][0]["error"], json!(null));
    assert!(stdout(&words).contains(why), "{}", stdout(&words));
}

#[tokio::test]
async fn inspect_says_why_a_file_is_no_artifact() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.so");
    std::fs::write(&text, "this is no library").unwrap();
    let pipe = directory.path().join("pipe.so");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, reason) in [
        (text.as_path(), "not a shared library"),
        (&pipe, "it is not a regular file"),
        (&directory.path().join("missing.so"), "No such file"),
        (directory.path(), "directory"),
    ] {
        let refused = output(&directory, &["inspect", path.to_str().unwrap(), "--json"]).await;
        assert_eq!(refused.status.code(), Some(1));
        let error = &stdout_as_json(&refused)["error"];
        assert_eq!(error["step"], "inspect");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}

#[tokio::test]
async fn each_shell_has_completions_and_each_command_a_page() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&output(&directory, &["completions", shell]).await);
        assert!(script.contains("rollback"), "{shell}: {script}");
    }
    let pages = directory.path().join("man1");
    assert!(output(&directory, &["man", pages.to_str().unwrap()]).await.status.success());
    for page in ["hotswap.1", "hotswap-rollback.1", "hotswap-inspect.1", "hotswap-console.1"] {
        assert!(pages.join(page).is_file(), "{page}");
    }
    let refused = output(&directory, &["man", "/dev/null/man"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("/dev/null/man"), "{}", stderr(&refused));
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2() {
    let runtime = tempfile::tempdir().unwrap();
    assert_eq!(output(&runtime, &["explode"]).await.status.code(), Some(2));
    assert_eq!(output(&runtime, &["invoke", "world"]).await.status.code(), Some(2));
}

#[tokio::test]
async fn running_a_path_that_is_no_host_says_what_it_is() {
    let runtime = tempfile::tempdir().unwrap();
    let path = runtime.path().to_str().unwrap();
    let no_package = output(&runtime, &["run", path]).await;
    assert_eq!(no_package.status.code(), Some(1));
    assert!(stderr(&no_package).contains("not a cargo package"), "{}", stderr(&no_package));
    let missing = output(&runtime, &["run", "/nowhere/host", "--json"]).await;
    assert_eq!(stdout_as_json(&missing)["error"]["kind"], "build");
}

#[tokio::test]
async fn a_run_prints_each_event_on_a_line_and_fails_with_its_host() {
    let runtime = tempfile::tempdir().unwrap();
    let host = runtime.path().join("host");
    std::fs::write(&host, "#!/bin/sh\necho \"got $*\"\nexit 7\n").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&host, executable).unwrap();
    let path = host.to_str().unwrap();
    let run = output(&runtime, &["run", path, "--json", "--", "--port", "1"]).await;
    assert_eq!(run.status.code(), Some(1));
    let lines: Vec<Value> =
        stdout(&run).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |event: &str| lines.iter().find(|line| line["event"] == event).unwrap();
    assert_eq!(find("opened")["name"], "host");
    assert_eq!(find("output")["text"], "got --port 1");
    assert_eq!(find("host_exited")["code"], 7);
    let failed = find("job_finished");
    assert_eq!(failed["job"], "start host");
    assert_eq!(failed["outcome"], "failed");
    assert!(lines.iter().any(|line| line["error"]["message"].is_string()));
}

#[tokio::test]
async fn the_console_without_a_terminal_or_a_host_is_plain() {
    let runtime = tempfile::tempdir().unwrap();
    let console = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hotswap-console"));
        command.args(args).env("XDG_RUNTIME_DIR", runtime.path()).stdin(Stdio::null());
        command.kill_on_drop(true);
        command
    };
    let alone = console(&["attach"]).output().await.unwrap();
    assert_eq!(alone.status.code(), Some(3), "{}", stderr(&alone));
    let socket = runtime.path().join("hotswap/41.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let host = HostInfo { socket: socket.clone(), ..samples::host(41) };
    let _host = FakeHost::listen_as(socket, host);
    let mut attached = console(&["--plain", "attach"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(attached.stdout.take().unwrap()).lines();
    let opened = lines.next_line().await.unwrap().unwrap();
    assert!(opened.ends_with("; this session neither watches nor builds"), "{opened}");
    while lines.next_line().await.unwrap().unwrap() != "== sample-host (pid 41) answers" {}
    let _other = FakeHost::listen(runtime.path(), 42);
    let listed = console(&["attach"]).output().await.unwrap();
    assert!(stdout(&listed).contains("42.sock"), "{}", stdout(&listed));
    let confused = console(&["--watch", "off", "attach"]).output().await.unwrap();
    assert_eq!(confused.status.code(), Some(2), "{}", stderr(&confused));
    assert!(stderr(&confused).contains("`attach` starts no host"), "{}", stderr(&confused));
    let gone = console(&["attach", "999999999"]).output().await.unwrap();
    assert_eq!(gone.status.code(), Some(3), "{}", stderr(&gone));
    let missing = console(&["/nowhere/host"]).output().await.unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("/nowhere/host"), "{}", stderr(&missing));
}
