#!/bin/sh
# Stands for the program of the other sandbox: takes its arguments and its standard input, gives
# its output, its errors and its exit code (128 and the number for a signal; 137 too when nothing
# is there any more that could run it). Ending this process, in whatever way, ends that run.
#
# What is at the other end is hostile. It can write into FIFOs, or not, and nothing else; it can
# hold up who opens a file that it sees (by a lease), so this script is not where it sees it. So
# whatever may wait for it here is a child that ends when this process does. In those children
# `exec` closes descriptors before anything waits: other redirections are saved by the shell.
set -fu
umask 022
join=${0%/*}.join
quote=\'
exec 3<&0

number=0
until dir=$join/runs/$$.$number && mkdir "$dir" 2>/dev/null; do number=$((number + 1)); done
mkfifo -m 666 "$dir/alive" "$dir/in" "$dir/out" "$dir/err" "$dir/status" || exit 126

# Words for the other shell's `eval`: quoted, with their own quotes spelt out.
for word; do
    printf %s "$quote"
    while [ "$word" != "${word#*"$quote"}" ]; do
        printf '%s%s' "${word%%"$quote"*}" "'\\''"
        word=${word#*"$quote"}
    done
    printf "%s' " "$word"
done >"$dir/arguments"

# Once only: wait for the other side to be there. Later it is, or never will be again.
[ -e "$join/met" ] || { : >"$join/requests" && : >"$join/met"; }

# To open a FIFO for reading and writing never waits, nor does reading with that as its writer.
# `life` has a writer for as long as the other side is there; `alive` while this process is.
exec 8<>"$join/life" 7<"$join/life" 8>&-
exec 8<>"$dir/status" 4<"$dir/status" 8>&-
exec 6<>"$dir/alive" 5<"$dir/alive"
# Nobody is to write into it: `read` would hold whatever comes before the end of a line.
chmod 444 "$dir/alive"

(exec 4<&- 5<&- 6>&- 7<&- 2>/dev/null && exec cat <&3 >"$dir/in") &
feed=$!
(exec 3<&- 4<&- 5<&- 6>&- 7<&- </dev/null && exec cat <"$dir/out") &
out=$!
(exec 3<&- 4<&- 5<&- 6>&- 7<&- </dev/null && exec cat <"$dir/err" >&2) &
err=$!
(
    exec 3<&- 4<&- 5<&- 6>&- </dev/null >/dev/null 2>&1
    head -c 1 <&7 &
    echo "$!" >"$dir/mourner"
    wait "$!"
    # The other side is gone: what it has not opened by now is opened for it, and closed.
    while :; do
        for name in in out err; do : <>"$dir/$name"; done
        sleep 1
    done
) &
mourner=$!
(
    exec 3<&- 4<&- 6>&- 7<&- </dev/null >/dev/null 2>&1
    read -r _ <&5
    # This process was ended from outside: nobody may go on to hold the caller's output.
    kill -s KILL "$feed" "$out" "$err" "$mourner" $(cat "$dir/mourner" "$dir/reader")
    rm -rf "$dir"
) &
heir=$!
exec 3<&- 5<&-

printf '%s\n' "${dir##*/}" 1<>"$join/requests"
wait "$out" "$err"
exec 2>/dev/null
(exec 6>&- 7<&- && exec head -c 4 <&4 >"$dir/code") &
echo "$!" >"$dir/reader"
wait "$!"
read -r code <"$dir/code"
kill -s KILL "$heir" "$mourner" "$feed" $(cat "$dir/mourner")
rm -rf "$dir"
case $code in
[0-9] | [0-9][0-9] | [0-9][0-9][0-9]) [ "$code" -le 255 ] && exit "$code" ;;
esac
exit 137
