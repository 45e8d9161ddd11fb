#!/bin/bash
# Functions that scripts of Moodle VPL activities expect of `common_script.sh`.
. ./vpl_environment.sh
export LC_ALL=$VPL_LANG
# check_program NAME…: sets PROGRAM to the first that there is; ends the script where none is,
# unless the last argument is NOERROR.
check_program() {
    PROGRAM=
    local name
    for name; do
        [ "$name" != NOERROR ] || return 1
        PROGRAMPATH=$(command -v "$name") || continue
        PROGRAM=$name PROPATH=$PROGRAMPATH
        return 0
    done
    echo "$1: command not found"
    exit 0
}
# get_source_files ENDING…: sets SOURCE_FILES to the files that end so, a line each, and
# SOURCE_FILE0 to the first; likewise.
get_source_files() {
    SOURCE_FILES=
    local ending
    for ending; do
        [ "$ending" != NOERROR ] || break
        SOURCE_FILES+=$(find . -name "*.$ending" -print | sed 's,^\./,,' | LC_ALL=C sort)$'\n'
    done
    SOURCE_FILES=$(sed '/^$/d' <<<"$SOURCE_FILES")
    SOURCE_FILE0=${SOURCE_FILES%%$'\n'*}
    [ -z "$SOURCE_FILES" ] || return 0
    [ "$ending" != NOERROR ] || return 1
    echo "To run this a file is needed that ends in $*"
    exit 0
}
# get_first_source_file ENDING…: sets FIRST_SOURCE_FILE, of those that were handed in.
get_first_source_file() {
    local name ending
    while read -r name; do
        for ending; do
            [ "${name##*.}" != "$ending" ] || { FIRST_SOURCE_FILE=$name; return 0; }
        done
    done <<<"$VPL_SUBFILES"
    [ "${*: -1}" != NOERROR ] || return 1
    echo "To run this a file is needed that ends in $*"
    exit 0
}
# generate_file_of_files FILE [PLAIN]: writes the names of SOURCE_FILES, a line each, in quotes.
generate_file_of_files() {
    if [ -n "$2" ]; then printf '%s\n' "$SOURCE_FILES" >"$1"
    else sed 's/.*/"&"/' <<<"$SOURCE_FILES" >"$1"; fi
}
get_program_version() { :; }
wait_end() { while pgrep -f "$1" >/dev/null; do sleep 1; done; }
# No submission has a file of this name: those are removed.
if [ -x pre_vpl_run.sh ]; then
    ./pre_vpl_run.sh
    rm -f pre_vpl_run.sh
fi
