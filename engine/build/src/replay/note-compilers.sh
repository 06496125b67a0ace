#!/bin/sh
# Cargo runs this in place of the compiler. It notes the call, and then runs the compiler.
if [ -n "$CARGO_CRATE_NAME" ] && [ -d "$HOTSWAP_NOTES" ]; then
    note="$HOTSWAP_NOTES/$CARGO_CRATE_NAME-$$"
    pwd -P >"$note.dir"
    cat "/proc/$$/environ" >"$note.env"
    cat "/proc/$$/cmdline" >"$note.args"
    # The plugin itself is compiled later, beside others: it is cargo's last call, and fails here.
    if [ -n "$CARGO_PRIMARY_PACKAGE" ] && [ -e "$HOTSWAP_NOTES/hold" ]; then
        option=
        for argument; do
            if [ "$option $argument" = "--crate-type cdylib" ]; then
                : >"$note.held" && : >"$HOTSWAP_NOTES/held" && exit 1
            fi
            option=$argument
        done
    fi
fi
exec "$@"
