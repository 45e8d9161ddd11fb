# Runs a PrairieLearn external grader on one submission.
# Arguments: names of variables to unset, "--", the entry point.
while [ "$#" -gt 0 ]; do
    [ "$1" != -- ] || { shift; break; }
    unset "$1"
    shift
done
owner=$(stat -c %u:%g /grade)
mkdir -p /grade/student /grade/tests /grade/serverFilesCourse /grade/shared /grade/data
cp -R /mnt/submission/. /grade/student/
[ ! -d /mnt/bundle/tests ] || cp -R /mnt/bundle/tests/. /grade/tests/
if [ -d /mnt/bundle/serverFilesCourse ]; then
    cp -R /mnt/bundle/serverFilesCourse/. /grade/serverFilesCourse/
    cp -R /mnt/bundle/serverFilesCourse/. /grade/shared/
fi
cp /mnt/engine/data.json /grade/data/data.json
chown 0:0 /grade
case $1 in /grade/*) chmod +x "$1" ;; esac
cd /
"$@" </dev/null
code=$?
# Whoever reads them is not root.
chown "$owner" /grade
[ ! -d /grade/results ] || { chown -R "$owner" /grade/results; chmod -R u+rwX /grade/results; }
exit "$code"
