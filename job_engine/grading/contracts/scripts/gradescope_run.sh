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
pipe=$(mktemp -u) && mkfifo "$pipe" || exit 1
tee results/stdout <"$pipe" &
tee=$!
./run_autograder </dev/null >"$pipe" 2>&1
code=$?
rm -f "$pipe"
# What it left running may hold the pipe open.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$tee" 2>/dev/null || break
    sleep 0.05
done
# Whoever reads them is not root.
chown -R "$owner" results
chmod -R u+rwX results
exit "$code"
