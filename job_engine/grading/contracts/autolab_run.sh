# Runs an Autolab grader on one submission. Argument: the name of the hand-in, or none.
handin=$1
work=$(mktemp -d /mnt/submission/.autolab-XXXXXX) || exit 1
cd /mnt/submission || exit 1
set -- $(find . -path "./${work##*/}" -prune -o -type f -print | head -2 | wc -l)
if [ -z "$handin" ]; then
    find . -mindepth 1 -maxdepth 1 ! -name "${work##*/}" -exec cp -R {} "$work/" \;
elif [ -f "$handin" ]; then
    mkdir -p "$work/$(dirname "$handin")" && cp "$handin" "$work/$handin"
elif [ "$1" -eq 1 ]; then
    find . -path "./${work##*/}" -prune -o -type f -exec cp {} "$work/$handin" \;
else
    case $handin in
    *.tar | *.tar.*) tar -caf "/tmp/$handin" --exclude="./${work##*/}" . ;;
    *.tgz) tar -czf "/tmp/$handin" --exclude="./${work##*/}" . ;;
    *)
        echo "The hand-in is one file, $handin; the submission has several, and none of that name."
        exit 1
        ;;
    esac
    mv "/tmp/$handin" "$work/$handin"
fi
# After the hand-in, so that the grader's own files stand.
cp -R /mnt/bundle/. "$work/"
cd "$work" || exit 1
[ ! -f autograde-Makefile ] || cp autograde-Makefile Makefile
exec make </dev/null 2>&1
