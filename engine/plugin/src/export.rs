//! The code that `#[plugin]` emits into the plugin crate.

/// Emits the static through which a host links the plugin, and, under `cfg(hotswap_cdylib)`, everything that
/// only a loaded image needs.
///
/// That code must be in the plugin crate itself: only the image may set the global allocator, and the linker
/// silently leaves out assembly of a dependency. The hooks are weak and hidden symbols, so that the image's
/// own `std` binds to them and nothing outside the image sees them.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($plugin:ty) => {
        // In every build: a host that links the plugin finds it here.
        #[doc(hidden)]
        pub static __HOTSWAP_PLUGIN: $crate::StaticPlugin = $crate::StaticPlugin::new::<$plugin>(
            module_path!(),
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
        );
        #[doc(hidden)]
        pub use $crate::StaticPlugin as __HotswapPlugin;

        #[allow(unexpected_cfgs)]
        const _: () = {
            #[cfg(hotswap_cdylib)]
            const _: () = {
                #[global_allocator]
                static ALLOCATOR: $crate::__private::HostAllocator =
                    $crate::__private::HostAllocator;

                #[used]
                #[unsafe(link_section = ".hotswap")]
                #[unsafe(export_name = "HOTSWAP_DESCRIPTOR")]
                static DESCRIPTOR: $crate::__private::Descriptor =
                    $crate::__private::Descriptor::new(
                        env!("CARGO_PKG_NAME"),
                        env!("CARGO_PKG_VERSION"),
                    );

                #[unsafe(export_name = "hotswap_attach")]
                unsafe extern "C" fn attach(
                    host: &'static $crate::__private::HostTable,
                ) -> *const $crate::__private::PluginTable {
                    // SAFETY: only the engine calls this, with a table of its own.
                    unsafe { $crate::__private::attach(host, &__HOTSWAP_PLUGIN, &DESCRIPTOR) }
                }

                mod hooks {
                    $crate::__each_hook!(__define_hooks);
                }
            };
        };
    };
}

/// Lists plugins that are linked into the host, for `Engine::builder_static`:
/// `static_plugins![world, dog]`.
///
/// Each is the path of a plugin crate, or of the module in which its `#[plugin]` is:
///
/// ```
/// mod world {
///     use hotswap_plugin::prelude::*;
///
///     #[derive(Default)]
///     pub struct World;
///
///     #[plugin]
///     impl Plugin for World {}
/// }
///
/// use hotswap_plugin::{StaticPlugin, static_plugins};
///
/// let plugins: [&'static StaticPlugin; 1] = static_plugins![world];
/// assert_eq!(plugins[0].name(), env!("CARGO_PKG_NAME"));
/// ```
#[macro_export]
macro_rules! static_plugins {
    ($($($plugin:ident)::+),* $(,)?) => {
        [$(&$($plugin)::+::__HOTSWAP_PLUGIN as &'static $crate::StaticPlugin),*]
    };
}

/// Calls a macro of this crate with the list of hooks: each symbol, and the function of
/// `hotswap_plugin::__private::hooks` that replaces it.
///
/// There is one list, so that the symbols that an image defines are the same as those that its `dlsym`
/// returns, and as those that the inspection of an artifact looks for.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_hook {
    ($with:ident) => {
        $crate::$with! {
            "__cxa_thread_atexit_impl" thread_at_exit,
            "__cxa_atexit" at_exit,
            "__register_atfork" at_fork,
            "pthread_key_create" key_create,
            "__pthread_key_create" key_create,
            "pthread_key_delete" key_delete,
            "pthread_setspecific" key_set,
            "__pthread_setspecific" key_set,
            "pthread_getspecific" key_get,
            "__pthread_getspecific" key_get,
            "pthread_create" thread_create,
            "dl_iterate_phdr" iterate_images,
            "getenv" get_variable,
            "secure_getenv" get_secure_variable,
            "setenv" set_variable,
            "unsetenv" unset_variable,
            "putenv" put_variable,
            "clearenv" clear_variables,
            "sigaction" signal_action,
            "__sigaction" signal_action,
            "__libc_sigaction" signal_action,
            "signal" signal_handler,
            "bsd_signal" signal_handler,
            "ssignal" signal_handler,
            "sigaltstack" signal_stack,
            "dlopen" open_library,
            "dlmopen" open_library_in,
            "dlsym" find_symbol,
            "dlvsym" find_symbol_version,
            "setvbuf" set_buffer,
            "setbuf" set_whole_buffer,
            "setbuffer" set_sized_buffer,
            "syscall" make_system_call,
            "open" open_file,
            "open64" open_file,
            "__open_2" open_file,
            "__open64_2" open_file,
            "openat" open_file_at,
            "openat64" open_file_at,
            "__openat_2" open_file_at,
            "__openat64_2" open_file_at,
            "close" close_descriptor,
            "creat" create_file,
            "creat64" create_file,
            "socket" open_socket,
            "socketpair" open_socket_pair,
            "accept" accept_client,
            "accept4" accept_client_with,
            "recvmsg" receive_message,
            "recvmmsg" receive_messages,
            "dup" duplicate,
            "dup2" duplicate_to,
            "dup3" duplicate_to_with,
            "fcntl" control_descriptor,
            "fcntl64" control_descriptor,
            "pipe" open_pipe,
            "pipe2" open_pipe_with,
            "eventfd" open_event_counter,
            "epoll_create" open_event_queue,
            "epoll_create1" open_event_queue_with,
            "memfd_create" create_memory_file,
            "timerfd_create" create_timer,
            "inotify_init" watch_files,
            "inotify_init1" watch_files_with,
            "signalfd" receive_signals,
            "pidfd_open" open_process,
            "pidfd_getfd" take_descriptor,
            "fanotify_init" watch_file_systems,
            "open_by_handle_at" open_by_handle,
            "shm_open" open_shared_memory,
            "mq_open" open_message_queue,
            "posix_openpt" open_terminal,
            "getpt" open_any_terminal,
            "openpty" open_terminal_pair,
            "mkstemp" make_temporary,
            "mkstemp64" make_temporary,
            "mkostemp" make_temporary_with,
            "mkostemp64" make_temporary_with,
            "mkstemps" make_named_temporary,
            "mkstemps64" make_named_temporary,
            "mkostemps" make_named_temporary_with,
            "mkostemps64" make_named_temporary_with,
            "opendir" open_directory,
            "fopen" open_stream,
            "fopen64" open_stream,
            "freopen" reopen_stream,
            "freopen64" reopen_stream,
            "tmpfile" open_temporary_stream,
            "tmpfile64" open_temporary_stream,
            "popen" open_command,
            "mmap" map_memory,
            "mmap64" map_memory,
            "munmap" unmap_memory,
            "mremap" remap_memory,
            "exit" end_process,
            "_exit" end_process_at_once,
            "_Exit" end_process_at_once,
            "quick_exit" end_process_quickly,
        }
    };
}

/// Defines the hooks in the crate that calls it.
#[doc(hidden)]
#[macro_export]
macro_rules! __define_hooks {
    ($($symbol:literal $hook:ident,)*) => {
        $($crate::__hook!($symbol, $hook);)*
    };
}

/// The hooks as a table of symbols and functions.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook_table {
    ($($symbol:literal $hook:ident,)*) => {
        &[$(($symbol, $crate::__private::hooks::$hook as *const ())),*]
    };
}

/// The symbols of the hooks.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook_names {
    ($($symbol:literal $hook:ident,)*) => {
        &[$($symbol),*]
    };
}

/// Defines one hidden symbol that jumps to a function of `hotswap_plugin::__private::hooks`.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    ($symbol:literal, $hook:ident) => {
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        ::core::arch::global_asm!(
            concat!(".weak ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ", @function"),
            concat!($symbol, ":"),
            $crate::__jump!(),
            hook = sym $crate::__private::hooks::$hook,
        );
    };
}

/// The instruction that jumps to `{hook}`.
#[doc(hidden)]
#[macro_export]
#[cfg(target_arch = "x86_64")]
macro_rules! __jump {
    () => {
        "jmp {hook}"
    };
}

/// The instruction that jumps to `{hook}`.
#[doc(hidden)]
#[macro_export]
#[cfg(not(target_arch = "x86_64"))]
macro_rules! __jump {
    () => {
        "b {hook}"
    };
}
