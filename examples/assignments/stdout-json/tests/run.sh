comma=
printf '{"tests": ['
for word in abc noon "two words"; do
    wanted=$(printf '%s' "$word" | rev)
    got=$(printf '%s' "$word" | timeout 5 sh reverse.sh 2>/dev/null | tr -d '"\\')
    points=0
    [ "$got" != "$wanted" ] || points=2
    printf '%s{"name": "%s", "score": %s, "max_score": 2, "output": "got %s"}' "$comma" "$word" "$points" "$got"
    comma=', '
done
printf ']}'
