//! Shared libraries without hooks: why plugins have hooks.

use std::{
    ffi::{CString, c_void},
    fs,
    os::unix::{ffi::OsStrExt, process::ExitStatusExt},
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::{OnceLock, mpsc::channel},
    thread,
};

use crate::support::{cargo, in_own_process, repository, succeed, target_dir};

/// A shared library, opened as an engine opens one.
struct Library {
    handle: *mut c_void,
    path: PathBuf,
}

impl Library {
    /// A copy of the fixture under a new name, which the loader does not know yet.
    fn open(copy: &Path) -> Self {
        fs::copy(fixture(), copy).expect("copy the library");
        let path = CString::new(copy.as_os_str().as_bytes()).unwrap();
        // SAFETY: the library's constructors are std's.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        assert!(!handle.is_null(), "{copy:?} cannot be opened");
        Self { handle, path: copy.to_owned() }
    }

    fn function(&self, name: &str) -> extern "C-unwind" fn() {
        let name = CString::new(name).unwrap();
        // SAFETY: the handle is open, and the name ends with a zero.
        let function = unsafe { libc::dlsym(self.handle, name.as_ptr()) };
        assert!(!function.is_null());
        // SAFETY: all functions of the fixture are of this type, whether they unwind or not.
        unsafe { std::mem::transmute::<*mut c_void, extern "C-unwind" fn()>(function) }
    }

    /// Closes it, which always works, and returns whether it is then unmapped.
    fn close(&self) -> bool {
        // SAFETY: the handle is open, and closed once.
        let code = unsafe { libc::dlclose(self.handle) };
        code == 0 && !self.is_mapped()
    }

    fn is_mapped(&self) -> bool {
        let maps = fs::read_to_string("/proc/self/maps").expect("this process's maps");
        maps.contains(self.path.to_str().unwrap())
    }
}

/// The library, built once.
fn fixture() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = cargo();
        build.args(["build", "-p", "unhooked", "--target-dir"]).arg(target_dir());
        build.current_dir(repository());
        succeed(build);
        target_dir().join("debug/libunhooked.so")
    })
}

#[test]
fn an_unused_library_is_unmapped() {
    let dir = tempfile::tempdir().unwrap();
    let library = Library::open(&dir.path().join("it.so"));
    assert!(library.is_mapped());
    assert!(library.close());
}

#[test]
fn a_thread_local_keeps_the_library_mapped_beyond_the_end_of_its_thread() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let (touched, (end, ended)) = (channel(), channel());
        let library = Library::open(&dir.path().join("it.so"));
        let touch = library.function("touch_local");
        let user = thread::spawn(move || {
            touch();
            touched.0.send(()).unwrap();
            let _: Result<(), _> = ended.recv();
        });
        touched.1.recv().unwrap();
        assert!(!library.close());
        drop(end);
        user.join().unwrap();
        assert!(library.is_mapped(), "the loader does not unmap the library by itself later");
        assert!(Library::open(&dir.path().join("other.so")).close());
        assert!(!library.is_mapped());
    });
    assert!(end.status.success(), "{}", end.output);
}

#[test]
fn a_key_does_not_keep_the_library_mapped_and_the_end_of_its_thread_crashes() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::open(&dir.path().join("it.so"));
        let touch = library.function("touch_current");
        let (touched, (end, ended)) = (channel(), channel());
        let user = thread::spawn(move || {
            touch();
            touched.0.send(()).unwrap();
            let _: Result<(), _> = ended.recv();
        });
        touched.1.recv().unwrap();
        assert!(library.close());
        println!("unmapped");
        drop(end);
        let _ = user.join();
    });
    assert!(end.output.contains("unmapped"), "{}", end.output);
    assert_eq!(end.status.signal(), Some(libc::SIGSEGV), "{}", end.output);
}

#[test]
fn a_thousand_loads_use_up_the_keys_of_a_process() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=1100 {
            let path = dir.path().join(format!("{number}.so"));
            let library = Library::open(&path);
            // The main thread never ends, so no destructor in an unmapped library is called.
            library.function("touch_current")();
            assert!(library.close());
            fs::remove_file(path).unwrap();
        }
        println!("loaded them all");
    });
    assert!(!end.output.contains("loaded them all"), "{}", end.output);
    assert_eq!(end.status.signal(), Some(libc::SIGABRT), "{}", end.output);
}

#[test]
fn a_panic_that_reaches_another_std_ends_the_process() {
    let end = in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = Library::open(&dir.path().join("it.so"));
        let _ = catch_unwind(|| library.function("explode")());
        println!("caught");
    });
    assert!(end.output.contains("Rust cannot catch foreign exceptions"), "{}", end.output);
    assert_eq!(end.status.signal(), Some(libc::SIGABRT), "{}", end.output);
}
