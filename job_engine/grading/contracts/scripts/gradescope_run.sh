# Runs a Gradescope bundle on one submission, and keeps what it prints in results/stdout.
cd /autograder || exit 1
owner=$(stat -c %u:%g results)
mkdir -p submission source
# Root's own files in the one file system, as there: graders rename, link and remove them.
cp -R /mnt/submission/. submission/ && find /mnt/submission -mindepth 1 -delete
cp /mnt/engine/submission_metadata.json submission_metadata.json
if [ -f /var/lib/job-engine/results ]; then
    read -r whose mode </var/lib/job-engine/results
else
    whose=0:0 mode=755
fi
chown "$whose" results && chmod "$mode" results
# A file from the start, and no pipe to one: graders read what they printed themselves.
: >results/stdout
exec 3<results/stdout
sleep 86400 &
ends=$!
tail -n +1 -s 0.1 --pid="$ends" -f <&3 2>/dev/null &
tail=$!
# Not in the background, where shells have interrupts ignored.
./run_autograder </dev/null >>results/stdout 2>&1 3<&-
code=$?
# By this signal, for a shell tells of others on standard error.
kill -PIPE "$ends"
wait "$ends" "$tail"
# What is left: all, where tail knows no --pid.
cat <&3
# Whoever reads them is not root.
chown -R "$owner" results
chmod -R u+rwX results
exit "$code"
