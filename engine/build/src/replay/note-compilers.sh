#!/bin/sh
# Stands between cargo and the compiler: notes how cargo calls it, and calls it.
if [ -n "$CARGO_CRATE_NAME" ] && [ -d "$HOTSWAP_NOTES" ]; then
    note="$HOTSWAP_NOTES/$CARGO_CRATE_NAME-$$"
    pwd -P >"$note.dir"
    cat "/proc/$$/environ" >"$note.env"
    cat "/proc/$$/cmdline" >"$note.args"
fi
exec "$@"
