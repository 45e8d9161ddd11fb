# Runs the output validator of a problem package, which the first case builds.
# Arguments: its directory, its flags in one word, then input, answer, directory for feedback.
source=$1 flags=$2 made=${TMPDIR:-/tmp}/validator
shift 2
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
    chmod +x run && touch .built
}
[ -f "$made/.built" ] || (build) </dev/null >&2 || exit 1
set -f
# shellcheck disable=SC2086 # the flags are words
exec "$made/run" "$@" $flags
