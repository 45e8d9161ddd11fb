case $1 in
lines) wc -l ;;
words) wc -w ;;
bytes) wc -c ;;
esac
