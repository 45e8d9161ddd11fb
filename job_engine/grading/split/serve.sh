#!/bin/sh
# serve COMMAND…: starts the command once for each request of the harness, with the request's
# further arguments. Runs in the program's sandbox, as its user, and keeps no secret from it.
set -fu
join=${0%/*}
session=$(command -v setsid)

handle() {
    dir=$join/runs/$1
    shift
    exec 8>&- 9>&- 2>/dev/null
    exec 7<"$dir/alive" 5<>"$dir/status"
    eval "set -- \"\$@\" $(cat "$dir/arguments")"
    (exec 5>&- 7<&- && exec $session "$@" <"$dir/in" >"$dir/out" 2>"$dir/err") &
    run=$!
    (
        exec 5>&-
        read -r _ <&7
        # The harness has ended the run, or is gone itself.
        kill -s KILL -- "-$run" "$run"
    ) &
    watch=$!
    wait "$run"
    code=$?
    kill -s KILL "$watch"
    # What it left behind; or the harness would wait for the end of its output.
    kill -s KILL -- "-$run"
    echo "$code" >&5
}

exec 9<>"$join/life" 8<>"$join/requests"
while read -r id <&8; do
    # Twice a child, so that whoever adopts orphans reaps it.
    (handle "$id" "$@" &)
done
