# Builds and runs a testlib program of a Polygon package: its checker, or its interactor.
# Arguments: its name, its source; to run it also the files that it is called with.
name=$1 source=$2 made=${TMPDIR:-/tmp}/$1
if [ "$#" -eq 2 ]; then
    exec g++ -O2 -std=gnu++17 -I "$(dirname "$source")" -I /mnt/tests/files -o "$made" "$source"
fi
shift 2
exec "$made" "$@"
