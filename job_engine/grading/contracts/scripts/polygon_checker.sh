# Runs the testlib checker of a Polygon package, which the first case builds.
# Arguments: its source, then input, output and answer.
source=$1 made=${TMPDIR:-/tmp}/checker
shift
if [ ! -x "$made" ]; then
    g++ -O2 -std=gnu++17 -I "$(dirname "$source")" -I /mnt/tests/files \
        -o "$made.new" "$source" >&2 || exit 3
    mv "$made.new" "$made" || exit 3
fi
exec "$made" "$@"
