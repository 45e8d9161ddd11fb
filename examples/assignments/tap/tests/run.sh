# Prints TAP: https://testanything.org
number=0

check() { # NAME OPTION EXPECTED
    number=$((number + 1))
    got=$(printf 'one two\nthree\n' | timeout 5 sh count.sh "$2" | tr -d ' ')
    if [ "$got" = "$3" ]; then
        echo "ok $number - $1"
    else
        echo "not ok $number - $1"
        echo "# expected $3, got $got"
    fi
}

echo 1..3
check "counts lines" lines 2
check "counts words" words 3
check "counts bytes" bytes 14
