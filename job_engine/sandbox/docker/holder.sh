# The program of a slot's holder: requests on standard input, answers on standard output.
# Runs under busybox, and under dash with GNU tools. `read` takes a byte at a time and dd
# just the blocks it is told to, so that requests and data can share one stream. An answer
# ends with the token that came with its request, which nothing in a tree can know. OWNER is set
# where this is root, which phases of its slot are too: it reads what they gave to whomever.
umask 022

# Goes to a directory of a tree. Whoever ran in there may have put a link in the way, out of
# the tree, or locked a door; what is in there is ours to unlock.
enter() {
    chmod u+rx "/trees/$1" && cd "/trees/$1" || return 1
    found=absent
    set -f
    IFS=/
    for part in ${2#/}; do
        if [ -L "./$part" ] || { [ -e "./$part" ] && [ ! -d "./$part" ]; }; then found=other; fi
        [ "$found" = absent ] && chmod u+rx "./$part" && cd "./$part" || return 1
    done 2>/dev/null
    found=directory
}

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
            # What root has unpacked is its owner's all the same.
            [ -z "$OWNER" ] || chown -Rh "$OWNER:$OWNER" "/trees/$tree"
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
        (
            whole=whole
            : >/tmp/names
            if enter "$tree" "$path"; then
                chmod -R u+rX . 2>/dev/null
                # /tmp is as large as what is read of it.
                find . -xdev ! -type d -print0 >/tmp/names 2>/dev/null || whole=part
            fi
            # Names, which may hold anything but NUL; then those that can be told of, again.
            cat /tmp/names
            printf '%s %s\n%s\n' "$found" "$whole" "$token"
            # Through a pipe: at its end each of the programs that xargs of busybox runs sets
            # a file that it reads back to where its own copy of the buffer began.
            [ ! -s /tmp/names ] || cat /tmp/names | xargs -0 stat -c '%f %s %n' 2>/dev/null
        )
        ;;
    read)
        IFS= read -r path
        dd bs="$argument" count=1 iflag=fullblock 2>/dev/null >/tmp/names
        (enter "$tree" "$path" && cat /tmp/names | xargs -0 cat 2>/dev/null)
        ;;
    esac
    printf '%s\n' "$token"
done
