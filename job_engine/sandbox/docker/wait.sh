# The first program of a phase's container: waits for the go, then becomes the phase's command.
# Arguments: the directory to run in, and the command. The go comes on standard input: a line
# with the directories to look for the command in; exports, quoted for a shell, with a plus
# before each line; and a line `go`. What follows is the command's own input, as `read` takes
# a byte at a time. Without a `go` whoever holds the other end is gone, and nothing is run.
IFS= read -r path
exports=
while IFS= read -r line && [ "$line" != go ]; do
    exports="$exports${line#+}
"
done
[ "$line" = go ] || exit 125
cd -- "$1" || exit 127
file=$2
case $file in
*/*) ;;
*)
    # Not left to the shell, which may have a program of its own by that name.
    set -f
    IFS=:
    for place in $path; do
        file=${place:-.}/$2
        [ -f "$file" ] && [ -x "$file" ] && break
        file=
    done
    if [ -z "$file" ]; then
        printf '%s: command not found\n' "$2" >&2
        exit 127
    fi
    ;;
esac
shift 2
set -- "$file" "$@"
# The environment is what was sent, and nothing of this shell's.
unset IFS path line place file PWD OLDPWD SHLVL _
eval "unset exports
$exports"
exec "$@"
