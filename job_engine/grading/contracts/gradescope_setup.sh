# Builds the image of a Gradescope bundle, as its documents say, before `setup.sh` does its part.
set -e
mkdir -p /autograder/source /autograder/submission /autograder/results
cp -R /mnt/bundle/. /autograder/source/
cd /autograder
# Editors of other systems end lines otherwise; a compiled run_autograder is left alone.
for script in source/setup.sh source/run_autograder; do
    if grep -qI . "$script"; then sed -i 's/\r$//' "$script"; fi
    chmod +x "$script"
done
cp source/run_autograder run_autograder
if [ -n "$http_proxy" ]; then apt-get update || true; fi
exec bash /autograder/source/setup.sh </dev/null
