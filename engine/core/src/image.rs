//! An artifact mapped into the host, or a plugin that is linked into it. Only this file opens and
//! closes a library.

mod descriptors;
pub(crate) mod heap;
mod host_table;
mod mapping;
mod named;
mod outside;
mod patch;
pub(crate) mod step_thread;
mod trial;

pub(crate) use host_table::{HostServices, ThreadServices};
pub(crate) use named::{Copied, Named};
pub(crate) use outside::Outside;
pub(crate) use patch::{MAX_PATCHES, MappedPatch, NotMapped};

use std::{
    any::Any,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    ptr::NonNull,
    sync::{Arc, Mutex},
};

use hotswap_plugin::{
    __private::{DescribedFunction, FunctionRef, RawFuture, RawObject, attach_linked},
    BoundObject, Data, ImportRequest, LiveTypeDescription, StaticPlugin, TypeSchema, Value, Vault,
    abi::{
        ATTACH_SYMBOL, Answer, Attach, CallContext, HostTable, PluginTable,
        descriptor::{Descriptor, Stamp},
    },
};
use hotswap_protocol::{KeepKind, KeepReason};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use crate::{
    EngineError, LoadCause, Step,
    artifact::{BuildId, patch::Patch},
    lock::Lock as _,
    os,
};
use host_table::host_table;
use mapping::{loaded, mapping};
use step_thread::StepThread;
use trial::Trial;

/// A mapped image, attached to this host.
///
/// Its functions may be called from any thread while it is open. The engine keeps it open as long
/// as there is a lease, and calls nothing of it without one.
pub(crate) struct Image {
    table: NonNull<PluginTable>,
    /// `None` if the plugin is linked into the host, where it stays.
    mapped: Option<Mapped>,
    // What the image calls through until it is unmapped; `close` frees it then.
    host: NonNull<HostTable>,
    // The table's context. This makes a cycle, which `close` breaks: an owner whose image is never
    // closed lives as long as the process, and so does the image.
    owner: Arc<dyn Any + Send + Sync>,
    outside: Arc<Outside>,
}

/// What was mapped.
struct Mapped {
    library: Library,
    opener: Mutex<Option<Opener>>,
    // Last: the file.
    named: Named,
}

// SAFETY: the table is the image's, and all its functions may be called from any thread: they hold
// a `Plugin`, which is `Send + Sync`, and catch panics.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Maps a staged artifact and attaches to it. What could do harm by being opened gets a thread for that.
    pub fn open<H: HostServices>(
        named: Named,
        owner: &Arc<H>,
        steps: &StepThread,
    ) -> Result<Self, EngineError> {
        let name = named.facts.name.clone();
        let opener = named.facts.may_harm_by_opening().then(|| steps.another()).transpose()?;
        let refuse =
            |why: String, cause| Err(EngineError::load(&name, Step::Open, why).because(cause));
        let host = NonNull::from(Box::leak(Box::new(host_table(owner))));
        let outside = owner.outside().clone();
        outside.set_file(named.copy.path());
        let opening = opener.as_ref().unwrap_or(steps);
        let (library, thread_id, copy) = match open_with_host(&named, host, owner, opening) {
            Ok(opened) => opened,
            Err(NotOpened::Refused(why, cause)) => {
                // SAFETY: the pointer came from a box. The loader runs constructors last of all, and
                // so has run nothing that could have kept it.
                drop(unsafe { Box::from_raw(host.as_ptr()) });
                return refuse(why, cause);
            }
            Err(NotOpened::RunsOn(why)) => {
                std::mem::forget((named, owner.clone()));
                return refuse(why, LoadCause::TimedOut { after: steps.timeout() });
            }
        };
        mapping(named.copy.path()).into_iter().for_each(|at| outside.set_mapping(at));
        match attach(&library, host, named.facts.build_id) {
            Ok(table) => {
                // The image has a host of its own from now on, and its file is what was inspected: it
                // may be loaded once more. Where this fails, only that does.
                let _ = write_host(&copy, &named, None);
                named.copy.is_written();
                let opener = opener.map(|thread| Opener { thread_id, _thread: thread });
                let mapped = Some(Mapped { library, opener: Mutex::new(opener), named });
                Ok(Self { table, mapped, host, owner: owner.clone(), outside })
            }
            Err((why, cause)) => {
                // Its constructors have run, and nobody knows what they have left: it stays mapped.
                std::mem::forget((library, opener, named, owner.clone()));
                refuse(format!("{why}; it stays mapped"), cause)
            }
        }
    }

    /// Attaches to a plugin that is linked into this program.
    pub fn link<H: HostServices>(
        plugin: &'static StaticPlugin,
        owner: &Arc<H>,
    ) -> Result<Self, EngineError> {
        let refuse = |why: &str| EngineError::load(plugin.name(), Step::Open, why);
        let host = NonNull::from(Box::leak(Box::new(host_table(owner))));
        // SAFETY: the table was leaked, and such an image is never closed.
        let table = unsafe { attach_linked(plugin, host.as_ref()) };
        let table = NonNull::new(table.cast_mut());
        let table = table.ok_or_else(|| refuse("it has no functions"))?;
        let outside = owner.outside().clone();
        Ok(Self { table, mapped: None, host, owner: owner.clone(), outside })
    }

    /// Why the image of a plugin that is linked into this program stays mapped.
    pub fn linked_reason() -> KeepReason {
        KeepReason::new(KeepKind::Linked, "it is linked into this program")
    }

    /// The file that was mapped, to be loaded once more; `None` if the plugin is linked into the host.
    pub fn file(&self) -> Option<&Path> {
        self.mapped.as_ref().map(|mapped| mapped.named.copy.path())
    }

    /// Loads a patch of this very build beside the image.
    pub fn load_patch(&self, patch: &Patch) -> Result<MappedPatch, NotMapped> {
        let file = self.file().ok_or(NotMapped::Linked)?;
        let base = loaded(file).ok_or(NotMapped::NoBase)?;
        let mapped = MappedPatch::map(patch, &base)?;
        self.outside.add_patch(mapped.range());
        Ok(mapped)
    }

    /// Ends the thread that opened the image if no other of these threads, by number, has destructors of the
    /// image to run. It then runs its own.
    pub fn end_opener(&self, pinned: &[(i32, String)]) {
        let Some(mapped) = &self.mapped else { return };
        let mut opener = mapped.opener.locked();
        let is_last =
            |opener: &mut Opener| pinned.iter().all(|(thread, _)| *thread == opener.thread_id);
        drop(opener.take_if(is_last));
    }

    fn table(&self) -> &PluginTable {
        // SAFETY: the table lives until `detach`, after which nothing is called.
        unsafe { self.table.as_ref() }
    }

    pub fn create(&self) -> Answer<()> {
        // SAFETY: the instance is the table's own; so below.
        unsafe { (self.table().create)(self.table().instance) }
    }

    pub fn describe(&self) -> Answer<Vec<DescribedFunction>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe)(self.table().instance) }
    }

    /// What a function says of itself, which is the image's or of a patch that was loaded beside it.
    pub fn describe_function(&self, function: FunctionRef) -> Answer<DescribedFunction> {
        // SAFETY: see `create`; the engine knows no other functions of the image than its own.
        unsafe { (self.table().describe_function)(self.table().instance, function) }
    }

    pub fn describe_types(&self) -> Answer<Vec<LiveTypeDescription>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe_types)(self.table().instance) }
    }

    pub fn describe_shared(&self) -> Answer<Vec<TypeSchema>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe_shared)(self.table().instance) }
    }

    pub fn renew(&self, index: usize, value: &Value) -> Answer<Value> {
        // SAFETY: see `create`.
        unsafe { (self.table().renew)(self.table().instance, index, value) }
    }

    pub fn reloadable(&self) -> Answer<bool> {
        // SAFETY: see `create`.
        unsafe { (self.table().reloadable)(self.table().instance) }
    }

    pub fn hands_over(&self) -> Answer<bool> {
        // SAFETY: see `create`.
        unsafe { (self.table().hands_over)(self.table().instance) }
    }

    pub fn hand_over(&self) -> Answer<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().hand_over)(self.table().instance) }
    }

    pub fn take_back(&self) -> Answer<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().take_back)(self.table().instance) }
    }

    pub fn export(&self) -> Answer<Option<RawObject>> {
        // SAFETY: see `create`.
        unsafe { (self.table().export)(self.table().instance) }
    }

    pub fn requests(&self) -> Answer<Vec<ImportRequest>> {
        // SAFETY: see `create`.
        unsafe { (self.table().requests)(self.table().instance) }
    }

    pub fn bind(&self, objects: Vec<Option<BoundObject>>) -> Answer<()> {
        // SAFETY: see `create`; the objects are of the shapes that were asked for.
        unsafe { (self.table().bind)(self.table().instance, objects) }
    }

    pub fn on_load(&self, data: &Data) -> Answer<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_load)(self.table().instance, data) }
    }

    /// Hands over the Vault, and asks for what functions are called with: valid until `detach`.
    pub fn prepare(&self, vault: Vault) -> Answer<CallContext> {
        // SAFETY: see `create`.
        unsafe { (self.table().prepare)(self.table().instance, vault) }
    }

    pub fn on_init(&self) -> Answer<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_init)(self.table().instance) }
    }

    pub fn on_free(&self) -> Answer<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_free)(self.table().instance) }
    }

    pub fn invoke(&self, function: FunctionRef, args: &[Value]) -> Answer<Value> {
        let table = self.table();
        // SAFETY: see `describe_function`; the arguments live through the call.
        unsafe { (table.invoke)(table.instance, function, args.as_ptr(), args.len()) }
    }

    /// Begins a call of an `async` function. The future is the image's, and wants a lease.
    pub fn start(&self, function: FunctionRef, args: &[Value]) -> Answer<RawFuture> {
        let table = self.table();
        // SAFETY: see `describe_function`; the arguments live through the call.
        unsafe { (table.start)(table.instance, function, args.as_ptr(), args.len()) }
    }

    pub fn invoke_func(&self, name: &str, args: &[Value]) -> Answer<Value> {
        let table = self.table();
        // SAFETY: see `create`; name and arguments live through the call.
        unsafe {
            (table.invoke_func)(
                table.instance,
                name.as_ptr(),
                name.len(),
                args.as_ptr(),
                args.len(),
            )
        }
    }

    /// Drops the plugin's instance and what attaching installed.
    ///
    /// # Safety
    /// Nobody is in the image, nothing but `close` is called afterwards, and this is called once.
    pub unsafe fn detach(&self) -> Answer<()> {
        // SAFETY: the caller's promise.
        unsafe { (self.table().detach)(self.table().instance) }
    }

    /// Unmaps the image, and looks whether it is gone.
    ///
    /// # Safety
    /// The image was detached; nothing runs in it or will, and no thread has destructors of it.
    pub unsafe fn close(self) -> Closed {
        let Self { mapped, host, owner, outside, .. } = self;
        let Some(Mapped { library, named, .. }) = mapped else {
            return Closed::StillMapped(Self::linked_reason());
        };
        let why = match unmap(library, &named, &outside) {
            Ok(()) => {
                // SAFETY: the pointer came from a box, and the image that called through it is gone.
                drop(unsafe { Box::from_raw(host.as_ptr()) });
                return Closed::Unmapped;
            }
            Err(why) => why,
        };
        // The image may still be called, by whatever keeps it: leave it its host.
        std::mem::forget((owner, named));
        Closed::StillMapped(why)
    }
}

/// Why a library is not there.
enum NotOpened {
    /// The loader did not take it, or the trial in another process did not end well.
    Refused(String, LoadCause),
    /// A constructor of it has not returned, and may yet.
    RunsOn(String),
}

/// The thread that opened an image, and lives as long: to a library's constructor it is the main thread, as
/// far as that goes (mimalloc keeps what it allocated first with the thread that it was opened on).
struct Opener {
    thread_id: i32,
    /// The thread ends when this is dropped.
    _thread: StepThread,
}

/// Opens a copy that has its host's address in it, so that constructors have a host too; returns by which
/// thread, and the copy as well, to be written to.
fn open_with_host<H: HostServices>(
    named: &Named,
    host: NonNull<HostTable>,
    owner: &Arc<H>,
    steps: &StepThread,
) -> Result<(Library, i32, File), NotOpened> {
    let path = named.copy.path();
    let copy = OpenOptions::new().write(true).open(path);
    let written = copy.and_then(|copy| write_host(&copy, named, Some(host)).map(|()| copy));
    let copy = written.map_err(|error| {
        let why = format!("cannot write to its copy {}: {error}", path.display());
        NotOpened::Refused(why, LoadCause::Loader)
    })?;
    if named.facts.may_harm_by_opening() {
        expect_harmless(path, steps)?;
    }
    let (path, owner) = (path.to_owned(), owner.clone());
    let opened = steps.run_bare(move || {
        // If it ends the process all the same, consoles see what did.
        let _noted = owner.note_opening();
        // SAFETY: the file was inspected: it is a whole plugin that `hotswap build` made of Rust
        // code with this toolchain, and the copy is ours alone. Its constructors find their host
        // in it.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) };
        library.map(|library| (library, os::thread_id()))
    });
    match opened {
        Some(Ok((library, thread_id))) => Ok((library, thread_id, copy)),
        Some(Err(error)) => {
            let no_room = if named.facts.has_static_tls { NO_ROOM } else { "" };
            Err(NotOpened::Refused(format!("{}{no_room}", error_text(&error)), LoadCause::Loader))
        }
        None => Err(NotOpened::RunsOn(format!(
            "a constructor did not return within {} s; it stays mapped, and the loader may open \
             nothing else until it has",
            steps.timeout().as_secs_f64()
        ))),
    }
}

/// What may be the reason that the loader refuses a file with thread-locals in the static area.
const NO_ROOM: &str = "; it has thread-locals in the static area, as C code compiled with `-ftls-model=initial-exec` has \
     them, and a process has room for some loads of such code only, also of versions that were freed: \
     restart the host, and compile that code with `-ftls-model=global-dynamic`";

/// Opens a file in a process of its own first.
fn expect_harmless(path: &Path, steps: &StepThread) -> Result<(), NotOpened> {
    const TRIED: &str =
        "it was opened in a process of its own first, to see whether that does harm";
    match trial::open(path, steps.timeout()) {
        Trial::Harmless => Ok(()),
        Trial::Ended(how) => {
            let why = format!(
                "{TRIED}; the process {how}: a constructor of the plugin, or a library that it needs, \
                 crashes"
            );
            Err(NotOpened::Refused(why, LoadCause::Loader))
        }
        Trial::RunsOn => {
            let after = steps.timeout();
            let why =
                format!("{TRIED}; a constructor did not return within {} s", after.as_secs_f64());
            Err(NotOpened::Refused(why, LoadCause::TimedOut { after }))
        }
    }
}

/// Writes the host's address, or none, to where a copy has it.
fn write_host(copy: &File, named: &Named, host: Option<NonNull<HostTable>>) -> io::Result<()> {
    let address = host.map_or(0, |host| host.as_ptr().expose_provenance());
    copy.write_all_at(&address.to_ne_bytes(), named.facts.host.start as u64)
}

/// Attaches to an image that was opened, and checks that the descriptor that answers is the one that
/// was inspected.
fn attach(
    library: &Library,
    host: NonNull<HostTable>,
    expected: BuildId,
) -> Result<NonNull<PluginTable>, (String, LoadCause)> {
    // SAFETY: the inspected descriptor's ABI version says that the symbol has this type.
    let attach = unsafe { library.get::<Attach>(ATTACH_SYMBOL.as_bytes()) };
    let attach = attach.map_err(|error| (error_text(&error), LoadCause::Loader))?;
    // SAFETY: the table was leaked, and is freed only when the image is gone.
    let table = unsafe { attach(host.as_ref()) };
    let table = NonNull::new(table.cast_mut()).ok_or_else(|| {
        let why = "attaching to it panicked".to_owned();
        (why.clone(), LoadCause::Panic { message: why, location: None })
    })?;
    // SAFETY: the image has just answered with its table, and the descriptor is a static in the image.
    // The compiler that built the image knows its stamp as zero; the read is volatile since the file's
    // says otherwise.
    let Descriptor { stamp: Stamp { build_id, .. }, .. } =
        unsafe { table.as_ref().descriptor.read_volatile() };
    if build_id == expected.bytes() {
        return Ok(table);
    }
    let why = format!("another image answered than {expected}, which was inspected");
    Err((why, LoadCause::Loader))
}

/// Unmaps a library of which nothing is used any more, unless somebody else may have pointers into
/// it; says why it is still there.
fn unmap(library: Library, named: &Named, outside: &Outside) -> Result<(), KeepReason> {
    if let Some(why) = outside.keep_reason() {
        std::mem::forget(library);
        return Err(why);
    }
    outside.begin_close();
    let loader = |why: String| KeepReason::new(KeepKind::Loader, why);
    let closed = library.close().map_err(|error| loader(error_text(&error)));
    let is_mapped = mapping(named.copy.path()).is_some();
    if closed.is_ok() && !is_mapped {
        outside.unmap_own_file();
        return Ok(());
    }
    outside.end_close();
    closed?;
    Err(loader("the loader kept it mapped; something else has opened it, or needs it".into()))
}

/// What came of closing an image.
pub(crate) enum Closed {
    /// It is gone.
    Unmapped,
    /// It is not; why.
    StillMapped(KeepReason),
}

fn error_text(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
