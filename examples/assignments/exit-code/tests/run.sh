for name in Ann Bea; do
    got=$(timeout 5 sh greet.sh "$name")
    if [ "$got" != "Hello, $name!" ]; then
        echo "greet.sh $name: expected 'Hello, $name!', got '$got'"
        exit 1
    fi
done
echo "It greets everybody."
