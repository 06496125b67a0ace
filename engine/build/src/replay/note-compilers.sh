#!/bin/sh
# Cargo runs this in place of the compiler. It notes the call, and then runs the compiler.
if [ -n "$CARGO_CRATE_NAME" ] && [ -d "$HOTSWAP_NOTES" ]; then
    note="$HOTSWAP_NOTES/$CARGO_CRATE_NAME-$$"
    pwd -P >"$note.dir"
    cat "/proc/$$/environ" >"$note.env"
    cat "/proc/$$/cmdline" >"$note.args"
fi
exec "$@"
