# Builds a submission to a problem package, in the language that the names of its files tell.
run=.job-engine-run
rm -rf "$run"
first() { find . -type f -name "*.$1" | LC_ALL=C sort | head -1; }
needs() {
    command -v "$1" >/dev/null && return
    echo "$1: command not found" >&2
    exit 1
}
# Of several files the one that begins.
main() {
    for name in "main.$1" "Main.$1" "__main__.$1"; do
        [ ! -f "$name" ] || { printf %s "$name"; return; }
    done
    first "$1"
}
# Writes what runs it: the words of a command, each quoted.
starts() {
    line=exec
    for word; do line="$line '$(printf %s "$word" | sed "s/'/'\\\\''/g")'"; done
    printf '%s "$@"\n' "$line" >"$run"
}
script() { # ending, interpreter
    needs "$2"
    starts "$2" "$(main "$1")"
}
compiled() { # ending, compiler, the command that it is called by
    ending=$1
    needs "$2"
    shift 2
    find . -type f -name "*.$ending" -exec "$@" -o ./.job-engine-program {} + || exit 1
    starts ./.job-engine-program
}
java() {
    needs javac
    find . -type f -name '*.java' -exec javac -encoding UTF-8 -d .job-engine-classes {} + || exit 1
    file=$(find . -type f -name '*.java' -exec grep -lE 'void +main *\(' {} + | LC_ALL=C sort | head -1)
    package=$(sed -n 's/^ *package  *\([A-Za-z0-9_.]*\).*/\1./p' "$file" | head -1)
    starts java -Xss64m -cp .job-engine-classes "$package$(basename "$file" .java)"
}
for ending in cpp cc cxx c java rs go py js rb pl php sh; do
    [ -n "$(first "$ending")" ] || continue
    case $ending in
    cpp | cc | cxx) compiled "$ending" g++ g++ -O2 -std=gnu++17 ;;
    c) compiled c gcc sh -c 'gcc -O2 -std=gnu11 "$@" -lm' gcc ;;
    java) java ;;
    rs) needs rustc && rustc -O -o ./.job-engine-program "$(main rs)" && starts ./.job-engine-program ;;
    go) needs go && go build -o ./.job-engine-program "$(main go)" && starts ./.job-engine-program ;;
    py) needs python3 && find . -type f -name '*.py' -exec python3 -m py_compile {} + && script py python3 ;;
    js) script js node ;;
    rb) script rb ruby ;;
    pl) script pl perl ;;
    php) script php php ;;
    sh) script sh bash ;;
    esac
    exit
done
echo "No file's name ends as one of a language that is known (.c, .cpp, .java, .py, …)."
exit 1
