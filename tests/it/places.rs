//! Hosts in unusual environments. Whatever is missing there, plugins are loaded and replaced, or a message says
//! what to do.

use std::{env, fs, os::unix::net::UnixStream, path::Path, thread, time::Instant};

use hotswap_build::{BuildOptions, Cancel, PluginPackage, build_plugin};
use hotswap_engine::{
    ConsoleSocket, args,
    protocol::{SocketPath, VersionState},
};

use crate::support::{End, Host, PATIENCE, PluginDir, in_own_mounts, in_own_process};

fn install_log() {
    tracing_subscriber::fmt().with_ansi(false).without_time().init();
}

fn set(variable: &str, dir: &Path) {
    // SAFETY: nothing else runs in this process yet.
    unsafe { env::set_var(variable, dir) };
}

fn host() -> Host {
    let plugins = PluginDir::of(&["echo"]);
    Host::new(plugins, |builder| builder.console(Some(ConsoleSocket::in_runtime_dir())))
}

fn expect_echo(host: &Host) {
    let plugin = host.engine.plugin("echo").unwrap();
    assert_eq!(plugin.invoke::<u32>("add", args![1, 2]).unwrap(), 3);
}

/// Loads a plugin, and replaces it, three times.
fn load_and_replace(host: &Host) {
    host.reload();
    for version in 2..5 {
        expect_echo(host);
        host.plugins.install("echo", version);
        host.reload();
        host.wait_for("echo", version - 1, VersionState::Freed);
    }
    expect_echo(host);
    println!("done");
}

fn expect_listening(host: &Host) {
    let socket = host.engine.snapshot().host.socket;
    let deadline = Instant::now() + PATIENCE;
    while UnixStream::connect(SocketPath::of(&socket).unwrap().path()).is_err() {
        assert!(Instant::now() < deadline, "no host listens at {}", socket.display());
        thread::yield_now();
    }
}

fn expect_done(end: &End) {
    assert!(end.output.contains("done"), "{:?} {}", end.status, end.output);
}

#[track_caller]
fn expect_once(end: &End, text: &str) {
    assert_eq!(end.output.matches(text).count(), 1, "{text}: {}", end.output);
}

#[test]
fn a_runtime_directory_that_is_removed_is_made_again() {
    let end = in_own_process(|| {
        install_log();
        let root = tempfile::tempdir().unwrap();
        set("XDG_RUNTIME_DIR", root.path());
        let host = host();
        host.reload();
        expect_listening(&host);
        fs::remove_dir_all(root.path().join("hotswap")).unwrap();
        host.plugins.install("echo", 2);
        host.reload();
        expect_listening(&host);
        host.wait_for("echo", 1, VersionState::Freed);
        assert_eq!(host.staged().len(), 1);
        // The directory is also made again without a reload.
        fs::remove_dir_all(root.path().join("hotswap")).unwrap();
        expect_listening(&host);
        host.plugins.install("echo", 3);
        host.reload();
        host.engine
            .rollback("echo@2")
            .expect_err("a version whose copy was removed cannot be loaded again without a store");
        expect_echo(&host);
        let staging = host.staging_dir();
        drop(host);
        assert!(!staging.exists());
        println!("done");
    });
    expect_done(&end);
    assert_eq!(end.output.matches("was removed; artifacts are staged in").count(), 2);
    assert_eq!(
        end.output.matches("the socket for consoles was removed; from now on it is").count(),
        2
    );
}

#[test]
fn artifacts_are_staged_in_memory_if_the_directory_is_noexec() {
    let script = "mount -t tmpfs -o noexec,mode=0700 none /mnt && export XDG_RUNTIME_DIR=/mnt";
    let end = in_own_mounts(script, || {
        install_log();
        let host = host();
        load_and_replace(&host);
        expect_listening(&host);
    });
    let Some(end) = end else { return };
    expect_done(&end);
    expect_once(&end, "artifacts are staged in memory, since /mnt/hotswap/stage/");
    expect_once(&end, "is mounted noexec, so no code in it can run");
}

#[test]
fn a_host_serves_if_the_disk_is_full() {
    let script = "mount -t tmpfs -o size=64k,mode=0700 none /mnt && export XDG_RUNTIME_DIR=/mnt";
    let end = in_own_mounts(script, || {
        install_log();
        load_and_replace(&host());
    });
    let Some(end) = end else { return };
    expect_done(&end);
    expect_once(
        &end,
        "No space left on device (os error 28); set another directory with `EngineBuilder::stage_in`",
    );
}

#[test]
fn a_host_serves_on_a_read_only_file_system() {
    let script = "mount -t tmpfs -o ro,mode=0700 none /mnt && export XDG_RUNTIME_DIR=/mnt";
    let end = in_own_mounts(script, || {
        install_log();
        let host = host();
        load_and_replace(&host);
        assert_eq!(host.engine.snapshot().host.socket, Path::new(""));
    });
    let Some(end) = end else { return };
    expect_done(&end);
    expect_once(&end, "artifacts are staged in memory, since cannot use the runtime directory");
    expect_once(&end, "no console can attach: cannot use the runtime directory");
}

#[test]
fn without_proc_a_host_serves() {
    let script = "export XDG_RUNTIME_DIR=$(mktemp -d) && mount -t tmpfs none /proc";
    let end = in_own_mounts(script, || {
        let host = host();
        load_and_replace(&host);
        expect_listening(&host);
        fs::remove_dir_all(env::var_os("XDG_RUNTIME_DIR").unwrap()).unwrap();
    });
    let Some(end) = end else { return };
    expect_done(&end);
}

#[test]
fn without_any_place_the_message_says_what_to_do() {
    let script = "mount -t tmpfs -o ro,mode=0700 none /mnt && export XDG_RUNTIME_DIR=/mnt && \
                  mount -t tmpfs none /proc";
    let end = in_own_mounts(script, || {
        let host = host();
        println!("{}", host.refused_reload());
        println!("done");
    });
    let Some(end) = end else { return };
    expect_done(&end);
    expect_once(&end, "nor can it be copied into memory: `/proc` is not mounted");
    expect_once(&end, "set another directory with `EngineBuilder::stage_in`");
}

#[test]
fn artifacts_are_staged_in_the_directory_that_the_host_sets() {
    let dir = tempfile::tempdir().unwrap();
    let stage = dir.path().join("copies");
    let host = Host::new(PluginDir::of(&["echo"]), |builder| builder.stage_in(&stage));
    load_and_replace(&host);
    assert!(host.staging_dir().starts_with(&stage));
    assert_eq!(host.staged().len(), 1);
}

#[test]
fn a_long_runtime_directory_has_a_socket() {
    let end = in_own_process(|| {
        let root = tempfile::tempdir().unwrap();
        let long = root.path().join("d".repeat(120));
        fs::create_dir(&long).unwrap();
        set("XDG_RUNTIME_DIR", &long);
        let host = host();
        assert!(host.engine.snapshot().host.socket.as_os_str().len() > 107);
        load_and_replace(&host);
        expect_listening(&host);
    });
    expect_done(&end);
}

/// Makes system calls fail, as a seccomp profile of a container does.
fn deny_system_calls(calls: &[libc::c_long]) {
    let statement =
        |code: u32, value: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: value };
    let number_at = 0;
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number_at)];
    for call in calls {
        let skip = libc::sock_filter {
            jf: 1,
            ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32)
        };
        filter.push(skip);
        let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        filter.push(statement(libc::BPF_RET | libc::BPF_K, refusal));
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program is valid, and lives through the call.
    let code = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if code != 0 {
        println!("skipped: this machine has no seccomp");
    }
}

#[test]
fn without_barriers_and_memory_files_a_host_serves() {
    let end = in_own_process(|| {
        deny_system_calls(&[libc::SYS_membarrier, libc::SYS_memfd_create]);
        let root = tempfile::tempdir().unwrap();
        set("XDG_RUNTIME_DIR", root.path());
        let host = host();
        load_and_replace(&host);
        expect_listening(&host);
    });
    expect_done(&end);
}

#[test]
fn without_locks_of_files_a_host_serves() {
    let end = in_own_process(|| {
        install_log();
        deny_system_calls(&[libc::SYS_flock]);
        let root = tempfile::tempdir().unwrap();
        set("XDG_RUNTIME_DIR", root.path());
        load_and_replace(&host());
    });
    expect_done(&end);
    expect_once(&end, "artifacts are staged in memory, since cannot make a staging directory in");
}

#[test]
fn a_build_where_files_cannot_be_locked_says_what_to_do() {
    let end = in_own_process(|| {
        let echo = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/echo");
        let echo = PluginPackage::open(&echo).unwrap();
        deny_system_calls(&[libc::SYS_flock]);
        let options = BuildOptions::default();
        match build_plugin(&echo, &options, &Cancel::default(), &mut |_| {}) {
            Ok(_) => println!("without seccomp it is built"),
            Err(error) => println!("error: {error}"),
        }
        println!("done");
    });
    expect_done(&end);
    let error = end.output.lines().find(|line| line.starts_with("error: "));
    if let Some(error) = error {
        assert!(error.contains("cannot lock") && error.contains("`CARGO_TARGET_DIR`"), "{error}");
    }
}

/// Sets the largest number of descriptors of this process.
fn limit_descriptors(most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: 4096 };
    // SAFETY: the record lives through the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

#[test]
fn with_no_descriptor_left_the_old_version_serves_on() {
    let end = in_own_process(|| {
        limit_descriptors(4096);
        let host = host();
        host.reload();
        host.plugins.install("echo", 2);
        let used = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        // One of the descriptors was that of the directory just read, and lower numbers may be free.
        for most in (3..used + 4).rev() {
            limit_descriptors(most);
            let Err(error) = host.engine.reload() else {
                limit_descriptors(4096);
                host.plugins.install("echo", u32::try_from(most).unwrap() + 10);
                continue;
            };
            let error = error.to_string();
            assert!(error.contains("Too many open files"), "{error}");
            expect_echo(&host);
        }
        limit_descriptors(4096);
        host.plugins.install("echo", 3);
        host.reload();
        expect_echo(&host);
        println!("done");
    });
    expect_done(&end);
}

#[test]
fn the_working_directory_may_change_after_the_engine_was_built() {
    let end = in_own_process(|| {
        let plugins = PluginDir::of(&["echo"]);
        let [here, elsewhere] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        env::set_current_dir(&here).unwrap();
        let host = Host::new(plugins, |builder| {
            let socket = ConsoleSocket::at("console.sock");
            builder.stage_in("stage").console(Some(socket))
        });
        env::set_current_dir(&elsewhere).unwrap();
        fs::remove_file(here.path().join("console.sock")).unwrap();
        load_and_replace(&host);
        expect_listening(&host);
        let names = |dir: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        println!("here {:?}, elsewhere {:?}", names(here.path()), names(elsewhere.path()));
    });
    expect_done(&end);
    let expected = r#"here ["console.sock", "stage"], elsewhere []"#;
    assert!(end.output.contains(expected), "{}", end.output);
}
