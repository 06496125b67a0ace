//! Holders: the calls, tasks, values and threads that keep a version in use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Activity, ending::duration_text};

/// The kind of a holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HolderKind {
    /// A call runs in it.
    Call,
    /// A task that it started, or a waker of such a task.
    Task,
    /// A value or an object with code of the version is in use.
    Value,
    /// A thread that it started runs.
    Thread,
    /// A generation, a handle or a console holds it.
    Handle,
    /// A step of the version's end has not returned.
    Ending,
    /// A thread has to run the destructors of its thread-locals.
    ThreadLocal,
    /// A kind that this program does not know.
    #[serde(other)]
    Other,
}

impl HolderKind {
    /// The word for `count` holders of this kind.
    pub fn noun(self, count: u64) -> &'static str {
        match (self, count) {
            (Self::Call, 1) => "call",
            (Self::Call, _) => "calls",
            (Self::Task, 1) => "task",
            (Self::Task, _) => "tasks",
            (Self::Value, 1) => "value",
            (Self::Value, _) => "values",
            (Self::Thread, 1) => "thread",
            (Self::Thread, _) => "threads",
            (Self::Handle, 1) => "handle",
            (Self::Handle, _) => "handles",
            (Self::Ending, _) => "ending",
            (Self::ThreadLocal, 1) => "thread-local",
            (Self::ThreadLocal, _) => "thread-locals",
            (Self::Other, _) => "of another kind",
        }
    }
}

/// A holder of a version: one thing with a name, or several things of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// How it keeps the version in use.
    pub kind: HolderKind,
    /// How many there are; always 1 if it has a name.
    #[serde(default = "one")]
    pub count: u64,
    /// The function that a call is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The patch of the version whose code it has; `None` for the version as it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<u32>,
    /// The activity that runs, if it is not a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// The name of the thread; `main` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The system's id of the thread; `None` for the first thread, whose id is that of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<i32>,
    /// The name of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The key of the value, or the name of the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The interface of the registration; `None` for a value of the DataBag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// When it began, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Whether it may have begun before `since_ms`: then `since_ms` is when it was first seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_at_least: bool,
    /// Whether it is a console that keeps the version.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_console: bool,
}

fn one() -> u64 {
    1
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Threads that libraries start, and what to do about them. The names are those that the system shows; it
/// cuts them to 15 bytes.
const OF_LIBRARIES: [(&str, &str); 7] = [
    ("tokio-rt-worker", OWN_RUNTIME),
    ("tokio-runtime-w", OWN_RUNTIME),
    (
        "ctrl-c",
        "handle signals in the host and notify the plugin by a call: the thread of the crate ctrlc never ends",
    ),
    (
        "reqwest-interna",
        "keep the client of `reqwest::blocking` in the plugin instance instead of a static: its runtime ends \
         when it is dropped",
    ),
    (
        "async-std/runti",
        "use `hotswap_plugin::rt`, or a runtime that can be dropped: the runtime of async-std never ends",
    ),
    (
        "smol-",
        "use `hotswap_plugin::rt`, or an executor that can be dropped: the executor of smol never ends",
    ),
    (
        "r2d2-worker-",
        "keep the pool in the plugin instance instead of a static: its threads end when it is dropped",
    ),
];

const OWN_RUNTIME: &str = "end the tokio runtime in `on_free` with `shutdown_background`: keep it in the plugin \
                           instance instead of a static, or use the host's (`hotswap_plugin::rt`)";

impl Holder {
    /// What to do about a thread that keeps a version in use; `None` if the holder is not a thread.
    pub fn advice(&self) -> Option<&'static str> {
        if self.kind != HolderKind::Thread {
            return None;
        }
        let is_of = |library: &&(&str, &str)| {
            self.thread.as_deref().is_some_and(|name| name.starts_with(library.0))
        };
        let known = OF_LIBRARIES.iter().find(is_of).map(|(_, advice)| *advice);
        Some(known.unwrap_or(
            "end the thread in `on_free`; if it belongs to a global pool such as rayon's, whose threads have no \
             names and never end, create a pool in the plugin (`ThreadPoolBuilder::build`) and drop it in `on_free`",
        ))
    }

    /// `count` holders of one kind, about which nothing else is known.
    pub fn unnamed(kind: HolderKind, count: u64) -> Self {
        Self {
            kind,
            count,
            function: None,
            patch: None,
            activity: None,
            thread: None,
            thread_id: None,
            task: None,
            key: None,
            interface: None,
            since_ms: None,
            is_at_least: false,
            is_console: false,
        }
    }

    /// Describes the holder at the time `now_ms`, in milliseconds since the Unix epoch: `call of greet on
    /// "main", ≥ 4.0 s`.
    pub fn text(&self, now_ms: u64) -> String {
        match self.kind {
            HolderKind::Ending => {
                let what = match self.activity {
                    Some(Activity::OnFree) => "its on_free",
                    Some(activity) => activity.as_str(),
                    None => "a step of its end",
                };
                return format!("{what}, which has not returned");
            }
            HolderKind::ThreadLocal => {
                return format!("thread-local on \"{}\"", self.thread.as_deref().unwrap_or("?"));
            }
            _ => {}
        }
        let noun = self.kind.noun(self.count);
        let Some(name) = self.name() else { return format!("{} {noun}", self.count) };
        let patch = self.patch.map_or_else(String::new, |patch| format!(" in patch {patch}"));
        format!("{noun} {name}{patch}{}", self.age(now_ms))
    }

    /// The text after the kind, `of greet on "main"`; `None` if nothing is known.
    fn name(&self) -> Option<String> {
        let called = self.function.as_deref().or(self.activity.map(Activity::as_str));
        let keyed = || match (self.key.as_ref()?, &self.interface) {
            (key, Some(interface)) => Some(format!("`{key}` of `{interface}`")),
            (key, None) => Some(format!("`{key}`")),
        };
        match (called, self.thread_text()) {
            (Some(called), Some(thread)) => Some(format!("of {called} on {thread}")),
            (Some(called), None) => Some(format!("of {called}")),
            (None, Some(thread)) => Some(thread),
            (None, None) if self.is_console => Some("of a console".into()),
            (None, None) => self.task.clone().or_else(keyed),
        }
    }

    /// The thread's name and number, such as `"main"`; the number alone if the system has no name.
    fn thread_text(&self) -> Option<String> {
        match (&self.thread, self.thread_id) {
            (Some(name), Some(id)) => Some(format!("\"{name}\" ({id})")),
            (Some(name), None) => Some(format!("\"{name}\"")),
            (None, Some(id)) => Some(format!("thread {id}")),
            (None, None) => None,
        }
    }

    /// How long it has been in use, such as `, ≥ 4.0 s`; empty if that is not known.
    fn age(&self, now_ms: u64) -> String {
        let runs = matches!(self.kind, HolderKind::Call | HolderKind::Task);
        let Some(since_ms) = self.since_ms.filter(|_| runs) else { return String::new() };
        let least = if self.is_at_least { "≥ " } else { "" };
        let age = Duration::from_millis(now_ms.saturating_sub(since_ms));
        format!(", {least}{}", duration_text(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(holder: serde_json::Value) -> String {
        serde_json::from_value::<Holder>(holder).unwrap().text(10_000)
    }

    #[test]
    fn a_holder_in_words_says_what_is_known_of_it() {
        use serde_json::json;
        let call = json!({
            "kind": "call", "function": "greet", "thread": "main", "since_ms": 6_000, "is_at_least": true,
        });
        assert_eq!(text(call), "call of greet on \"main\", ≥ 4.0 s");
        let patched = json!({ "kind": "call", "function": "greet", "patch": 2 });
        assert_eq!(text(patched), "call of greet in patch 2");
        let step = json!({ "kind": "call", "activity": "on_init", "since_ms": 9_988 });
        assert_eq!(text(step), "call of on_init, 12 ms");
        assert_eq!(text(json!({ "kind": "call", "count": 2 })), "2 calls");
        let task = json!({ "kind": "task", "task": "tick", "since_ms": 9_000 });
        assert_eq!(text(task), "task tick, 1.0 s");
        assert_eq!(text(json!({ "kind": "value", "key": "cat" })), "value `cat`");
        let registered = json!({ "kind": "value", "key": "cat", "interface": "api::Animal" });
        assert_eq!(text(registered), "value `cat` of `api::Animal`");
        let thread = json!({
            "kind": "thread", "thread": "worker", "thread_id": 4130, "since_ms": 9_000,
        });
        assert_eq!(text(thread), "thread \"worker\" (4130)");
        assert_eq!(text(json!({ "kind": "thread", "thread_id": 7 })), "thread thread 7");
        let kept = json!({ "kind": "handle", "is_console": true });
        assert_eq!(text(kept), "handle of a console");
        assert_eq!(text(json!({ "kind": "handle" })), "1 handle");
        let ending = json!({ "kind": "ending", "activity": "on_free" });
        assert_eq!(text(ending), "its on_free, which has not returned");
        let drop = json!({ "kind": "ending", "activity": "drop_value" });
        assert_eq!(text(drop), "the drop of a value, which has not returned");
        let local = json!({ "kind": "thread_local", "thread": "pool-1", "thread_id": 4131 });
        assert_eq!(text(local), "thread-local on \"pool-1\"");
    }

    #[test]
    fn the_advice_about_a_thread_follows_from_its_name() {
        let thread = |name: &str| {
            let thread = Some(name.to_owned());
            let holder = Holder { thread, ..Holder::unnamed(HolderKind::Thread, 1) };
            holder.advice().unwrap()
        };
        assert_eq!(thread("tokio-rt-worker"), OWN_RUNTIME);
        assert!(thread("ctrl-c").contains("the crate ctrlc"));
        assert!(thread("http-3").contains("`on_free`"));
        assert_eq!(Holder::unnamed(HolderKind::Call, 1).advice(), None);
    }

    #[test]
    fn known_fields_of_a_newer_host_are_read() {
        let newer = r#"{"kind":"fibre","activity":"on_pause","priority":3}"#;
        let holder: Holder = serde_json::from_str(newer).unwrap();
        assert_eq!((holder.kind, holder.activity), (HolderKind::Other, Some(Activity::Other)));
        let one = serde_json::to_string(&Holder::unnamed(HolderKind::Handle, 3)).unwrap();
        assert_eq!(one, r#"{"kind":"handle","count":3}"#);
    }
}
