//! What `#[plugin]` emits into the plugin crate itself.

/// Emits the plugin for hosts that link it statically; and what only a loaded image needs, under
/// `cfg(hotswap_cdylib)`.
///
/// The latter must stand in the plugin crate: a program has one global allocator, and the linker silently
/// leaves out assembly that stands in a dependency. The hooks are weak and hidden, so that the
/// image's own `std` binds to them and nobody else sees them.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($plugin:ty) => {
        // In every build: a host finds the plugin here when it is linked statically.
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
                extern "C" fn attach(
                    host: &'static $crate::__private::HostTable,
                ) -> *const $crate::__private::PluginTable {
                    $crate::__private::attach(host, &__HOTSWAP_PLUGIN, &DESCRIPTOR)
                }

                mod hooks {
                    $crate::__hook!("__cxa_thread_atexit_impl", thread_at_exit);
                    $crate::__hook!("pthread_key_create", key_create);
                    $crate::__hook!("pthread_key_delete", key_delete);
                    $crate::__hook!("pthread_setspecific", key_set);
                    $crate::__hook!("pthread_getspecific", key_get);
                    $crate::__hook!("pthread_create", thread_create);
                    $crate::__hook!("dl_iterate_phdr", iterate_images);
                    $crate::__hook!("setenv", set_variable);
                    $crate::__hook!("unsetenv", unset_variable);
                    $crate::__hook!("sigaction", signal_action);
                    $crate::__hook!("signal", signal_handler);
                }
            };
        };
    };
}

/// Plugins that are linked into the host, for `Engine::builder_static`: `static_plugins![world, dog]`.
///
/// Each is a plugin crate, or the module of it in which `#[plugin]` stands.
#[macro_export]
macro_rules! static_plugins {
    ($($($plugin:ident)::+),* $(,)?) => {
        [$(&$($plugin)::+::__HOTSWAP_PLUGIN as &'static $crate::StaticPlugin),*]
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
