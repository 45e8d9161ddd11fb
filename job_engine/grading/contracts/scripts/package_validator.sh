# Builds the output validator of a problem package, and runs it.
# Arguments: its directory; to run it also its flags in one word, then input, answer, directory for
# feedback.
source=$1 flags=$2 made=${TMPDIR:-/tmp}/validator
build() {
    rm -rf "$made" && mkdir "$made" && cp -RL "$source/." "$made" && chmod -R u+rwX "$made" || exit 1
    cd "$made" || exit 1
    if [ -f build ]; then
        chmod +x build && ./build
    elif [ -f run ]; then
        :
    elif [ -n "$(find . -name '*.c[cpx]*')" ]; then
        find . -name '*.c[cpx]*' -exec g++ -O2 -std=gnu++17 -I. -o run {} +
    elif [ -n "$(find . -name '*.c')" ]; then
        find . -name '*.c' -exec sh -c 'gcc -O2 -I. -o run "$@" -lm' gcc {} +
    else
        name=$(find . -name '*.py' | LC_ALL=C sort | head -1)
        [ -n "$name" ] || { echo "the validator is not in C, C++ or Python, and has no build"; exit 1; }
        printf '#!/bin/sh\nexec python3 "%s/%s" "$@"\n' "$made" "$name" >run
    fi || exit 1
    chmod +x run
}
if [ "$#" -eq 1 ]; then
    build
    exit
fi
shift 2
set -f
# shellcheck disable=SC2086 # the flags are words
exec "$made/run" "$@" $flags
