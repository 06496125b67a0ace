//! An artifact that is mapped into the host, or a plugin that is linked into it. Only this file opens and
//! closes libraries.

mod descriptors;
pub(crate) mod heap;
mod host_table;
mod left_mapped;
mod mapping;
mod named;
mod outside;
mod patch;
mod room;
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
    __private::{
        DescribedFunction, FunctionRef, InsideLinked, RawFuture, RawObject, attach_linked,
    },
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

/// A mapped image that is attached to this host.
///
/// While it is open, its functions may be called from any thread. The engine keeps it open as long as there
/// is a lease, and calls nothing in it without one.
pub(crate) struct Image {
    table: NonNull<PluginTable>,
    /// `None` if the plugin is linked into the host, where it stays.
    mapped: Option<Mapped>,
    // The table through which the image calls the host until it is unmapped; `close` frees it.
    host: NonNull<HostTable>,
    // The context of the table. This is a cycle, which `close` breaks: the owner of an image that is never
    // closed lives as long as the process, and so does the image.
    owner: Arc<dyn Any + Send + Sync>,
    outside: Arc<Outside>,
}

/// The mapped library.
struct Mapped {
    library: Library,
    opener: Mutex<Option<Opener>>,
    // The file comes last.
    named: Named,
}

// SAFETY: the table belongs to the image, and all its functions may be called from any thread: they use a
// `Plugin`, which is `Send + Sync`, and catch panics.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Maps a staged artifact and attaches to it. A file that could do harm when it is opened gets a thread
    /// of its own.
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
                // SAFETY: the pointer came from a box. The loader runs constructors last, and has run nothing
                // that could have kept the pointer.
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
                // From now on the image has its own host, and its file is what was inspected, so it may be
                // loaded again. If writing fails, only that does not work.
                let _ = write_host(&copy, &named, None);
                named.copy.is_written();
                let opener = opener.map(|thread| Opener { thread_id, _thread: thread });
                let mapped = Some(Mapped { library, opener: Mutex::new(opener), named });
                Ok(Self { table, mapped, host, owner: owner.clone(), outside })
            }
            Err((why, cause)) => {
                // Its constructors have run, and nobody knows what they left behind: it stays mapped.
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

    /// Whether the plugin is linked into this program.
    pub fn is_linked(&self) -> bool {
        self.mapped.is_none()
    }

    /// Notes, until the result is dropped, that this thread is in the plugin, if the plugin is linked into this program.
    /// Calls by name note this by themselves.
    pub fn note_linked(&self) -> Option<InsideLinked> {
        // SAFETY: the table of a plugin that is linked into this program is never freed.
        self.is_linked().then(|| InsideLinked::enter(unsafe { self.host.as_ref() }))
    }

    /// Why the image of a plugin that is linked into this program stays mapped.
    pub fn linked_reason() -> KeepReason {
        KeepReason::new(KeepKind::Linked, "it is linked into this program")
    }

    /// The mapped file, to load it again; `None` if the plugin is linked into the host.
    pub fn file(&self) -> Option<&Path> {
        self.mapped.as_ref().map(|mapped| mapped.named.copy.path())
    }

    /// Loads a patch of exactly this build beside the image.
    pub fn load_patch(&self, patch: &Patch) -> Result<MappedPatch, NotMapped> {
        let file = self.file().ok_or(NotMapped::Linked)?;
        let base = loaded(file).ok_or(NotMapped::NoBase)?;
        MappedPatch::map(patch, &base, self.outside.room()?, file)
    }

    /// Ends the thread that opened the image, unless another thread in `pinned` has destructors of the image
    /// to run. The thread then runs its own destructors.
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
        // SAFETY: the instance is that of the table. The same goes for the functions below.
        unsafe { (self.table().create)(self.table().instance) }
    }

    pub fn describe(&self) -> Answer<Vec<DescribedFunction>> {
        // SAFETY: see `create`.
        unsafe { (self.table().describe)(self.table().instance) }
    }

    /// The description of a function of the image, or of a patch that was loaded beside it.
    pub fn describe_function(&self, function: FunctionRef) -> Answer<DescribedFunction> {
        // SAFETY: see `create`. The engine knows only functions that the image or its patches have.
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
        // SAFETY: see `create`. The objects have the shapes that were requested.
        unsafe { (self.table().bind)(self.table().instance, objects) }
    }

    pub fn on_load(&self, data: &Data) -> Answer<()> {
        // SAFETY: see `create`.
        unsafe { (self.table().on_load)(self.table().instance, data) }
    }

    /// Hands over the Vault, and gets the context of all calls, which is valid until `detach`.
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

    /// Begins a call of an `async` function. The future belongs to the image, and needs a lease.
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

    /// Drops the plugin's instance and everything that attaching installed.
    ///
    /// # Safety
    /// No code runs in the image, only `close` is called afterwards, and this is called once.
    pub unsafe fn detach(&self) -> Answer<()> {
        // SAFETY: the caller's promise.
        unsafe { (self.table().detach)(self.table().instance) }
    }

    /// Unmaps the image, and checks that it is gone.
    ///
    /// # Safety
    /// The image was detached. No code runs in it or will run, and no thread has destructors of it.
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
        // Whatever keeps the image may still call it, so it keeps its host.
        std::mem::forget((owner, named));
        Closed::StillMapped(why)
    }
}

/// Why a library could not be opened.
enum NotOpened {
    /// The loader refused it, or the trial in another process failed.
    Refused(String, LoadCause),
    /// A constructor has not returned, and may still run.
    RunsOn(String),
}

/// The thread that opened an image. It lives as long as the image: for a library's constructor it takes the
/// place of the main thread (mimalloc ties its first allocations to the thread that opened it).
struct Opener {
    thread_id: i32,
    /// The thread ends when this is dropped.
    _thread: StepThread,
}

/// Opens a copy that contains its host's address, so that constructors can use the host. Returns the library,
/// the thread that opened it, and the copy for further writing.
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
        // If opening the file ends the process nevertheless, consoles see the cause.
        let _noted = owner.note_opening();
        // SAFETY: the file was inspected: it is a complete plugin that `hotswap build` made of Rust code with
        // this toolchain, and nobody else writes to the copy. Its constructors find their host in it.
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
            "a constructor did not return within {} s; the image stays mapped, and the loader may open \
             nothing else until the constructor returns",
            steps.timeout().as_secs_f64()
        ))),
    }
}

/// A possible reason why the loader refuses a file with thread-locals in the static TLS area.
const NO_ROOM: &str = "; it has thread-locals in the static TLS area, as C code compiled with `-ftls-model=initial-exec` has \
     them; a process has room for only a few loads of such code, including versions that were freed: \
     restart the host, and compile that code with `-ftls-model=global-dynamic`";

/// Opens a file in another process first.
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

/// Writes the host's address, or zero, to its place in a copy.
fn write_host(copy: &File, named: &Named, host: Option<NonNull<HostTable>>) -> io::Result<()> {
    let address = host.map_or(0, |host| host.as_ptr().expose_provenance());
    copy.write_all_at(&address.to_ne_bytes(), named.facts.host.start as u64)
}

/// Attaches to an opened image, and checks that the descriptor of the image is the one that was inspected.
fn attach(
    library: &Library,
    host: NonNull<HostTable>,
    expected: BuildId,
) -> Result<NonNull<PluginTable>, (String, LoadCause)> {
    // SAFETY: the ABI version in the inspected descriptor says that the symbol has this type.
    let attach = unsafe { library.get::<Attach>(ATTACH_SYMBOL.as_bytes()) };
    let attach = attach.map_err(|error| (error_text(&error), LoadCause::Loader))?;
    // SAFETY: the table was leaked, and is freed only when the image is gone.
    let table = unsafe { attach(host.as_ref()) };
    let table = NonNull::new(table.cast_mut()).ok_or_else(|| {
        let why = "attaching to it panicked".to_owned();
        (why.clone(), LoadCause::Panic { message: why, location: None })
    })?;
    // SAFETY: the image has just returned its table, and the descriptor is a static in the image. The compiler
    // that built the image took the stamp for zero, but the file has another stamp, so the read is volatile.
    let Descriptor { stamp: Stamp { build_id, .. }, .. } =
        unsafe { table.as_ref().descriptor.read_volatile() };
    if build_id == expected.bytes() {
        return Ok(table);
    }
    let why = format!("the image that answered is not build {expected}, which was inspected");
    Err((why, LoadCause::Loader))
}

/// Unmaps a library that is not used any more, unless something outside may have pointers into it. The error
/// says why it is still mapped.
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

/// The result of closing an image.
pub(crate) enum Closed {
    /// The image is unmapped.
    Unmapped,
    /// The image is still mapped, for this reason.
    StillMapped(KeepReason),
}

fn error_text(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}
