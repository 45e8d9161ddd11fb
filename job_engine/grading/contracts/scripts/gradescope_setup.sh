# Builds the image of a Gradescope bundle, as its documents say, before `setup.sh` does its part.
set -e
mkdir -p /autograder/source /autograder/submission /autograder/results
cp -R /mnt/bundle/. /autograder/source/
cd /autograder
# Editors of other systems end lines otherwise; a compiled run_autograder is left alone.
for script in source/setup.sh source/run_autograder; do
    [ -f "$script" ] || continue
    if grep -qI . "$script"; then sed -i 's/\r$//' "$script"; fi
    chmod +x "$script"
done
cp source/run_autograder run_autograder
# There it is the program that runs graders; bundles tell by it that they are not at home.
[ -e harness.py ] || echo '# The grader is run by a job engine.' >harness.py
cd /
if [ -n "$http_proxy" ]; then apt-get update || true; fi
code=0
# There is none where the image has all that is needed.
[ ! -f /autograder/source/setup.sh ] || bash /autograder/source/setup.sh </dev/null || code=$?
# Setups say who may look into results/, which a tree covers when submissions are graded.
mkdir -p /autograder/results /autograder/submission /var/lib/job-engine
stat -c '%u:%g %a' /autograder/results >/var/lib/job-engine/results
exit "$code"
