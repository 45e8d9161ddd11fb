# Runs an Autolab grader on one submission. Argument: the name of the hand-in, or none.
handin=$1
work=$(mktemp -d /mnt/submission/.autolab-XXXXXX) || exit 1
cd /mnt/submission || exit 1
files() { find . -path "./${work##*/}" -prune -o -type f -print; }
is_packed() { case $1 in *.tar | *.tar.* | *.tgz | *.zip) ;; *) return 1 ;; esac; }
# Packs the whole submission as the hand-in.
pack() {
    case $handin in
    *.tgz) tar -czf "$work/$handin" --exclude="./${work##*/}" . ;;
    *.zip) files | python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", strict_timestamps=False) as made:
    for line in sys.stdin:
        made.write(line[:-1])' "$work/$handin" ;;
    *) tar -caf "$work/$handin" --exclude="./${work##*/}" . ;;
    esac
}
count=$(files | head -2 | wc -l)
only=$(files | head -1)
if [ -z "$handin" ]; then
    find . -mindepth 1 -maxdepth 1 ! -name "${work##*/}" -exec cp -R {} "$work/" \;
elif [ -f "$handin" ]; then
    mkdir -p "$work/$(dirname "$handin")" && cp "$handin" "$work/$handin"
elif is_packed "$handin" && ! { [ "$count" -eq 1 ] && is_packed "$only"; }; then
    pack
elif [ "$count" -eq 1 ]; then
    cp "$only" "$work/$handin"
else
    echo "The hand-in is one file, $handin; the submission has several, and none of that name."
    exit 1
fi
# After the hand-in, so that the grader's own files stand; without what is in their way, such as
# links, which would have one file of theirs written over another.
(cd /mnt/bundle && find . -mindepth 1 -exec sh -c '
for path; do
    { [ -d "$path" ] && [ -d "$0/$path" ] && [ ! -L "$0/$path" ]; } || rm -rf "$0/$path"
done' "$work" {} +) || exit 1
cp -R /mnt/bundle/. "$work/"
cd "$work" || exit 1
[ ! -f autograde-Makefile ] || cp autograde-Makefile Makefile
# Not a GNUmakefile of the submission, which make would take first.
exec make -f Makefile </dev/null 2>&1
