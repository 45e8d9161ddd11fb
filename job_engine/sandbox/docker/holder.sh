# The program of a slot's holder: requests on standard input, answers on standard output.
# Runs under busybox, and under dash with GNU tools. `read` takes a byte at a time and dd
# just the blocks it is told to, so that requests and data can share one stream. An answer
# ends with the token that came with its request, which nothing in a tree can know.
umask 022
while read -r request token tree argument; do
    case $request in
    fill)
        {
            while read -r blocks && [ "$blocks" -gt 0 ]; do
                dd bs=65536 count="$blocks" iflag=fullblock 2>/dev/null
            done
        } | {
            # Errors go to a file: there may be many, and nobody reads before the end.
            tar -xpof - -C "/trees/$tree" 2>/tmp/errors
            echo "$?"
            cat >/dev/null
        }
        head -c 500 /tmp/errors
        ;;
    space)
        # Blocks, free blocks, inodes, free inodes, and a word if a file has just that size.
        stat -f -c '%b %f %c %d' "/trees/$tree"
        find "/trees/$tree" -xdev -type f -size "${argument}c" 2>/dev/null | head -c 1
        ;;
    list)
        IFS= read -r path
        : >/tmp/names
        # Whoever ran in there may have put a link in the way, out of the tree.
        if cd "/trees/$tree$path" 2>/dev/null && [ "$(pwd -P)" = "/trees/$tree$path" ]; then
            chmod -R u+rX . 2>/dev/null
            find . -xdev ! -type d -print0 2>/dev/null | head -c "$argument" >/tmp/names
        fi
        # Names, which may hold anything but NUL, apart from their modes and sizes.
        cat /tmp/names
        printf '%s\n' "$token"
        [ ! -s /tmp/names ] || xargs -0 stat -c '%f %s' </tmp/names 2>/dev/null
        ;;
    read)
        IFS= read -r path
        dd bs="$argument" count=1 iflag=fullblock 2>/dev/null >/tmp/names
        cd "/trees/$tree$path" && xargs -0 cat </tmp/names 2>/dev/null
        ;;
    esac
    cd /
    printf '%s\n' "$token"
done
