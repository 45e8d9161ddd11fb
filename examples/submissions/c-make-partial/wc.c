#include <stdio.h>

/* Counts separators instead of words: wrong for runs of spaces, and at the end. */
int main(void) {
    long lines = 0, words = 0, bytes = 0;
    int c;

    while ((c = getchar()) != EOF) {
        bytes++;
        if (c == '\n') {
            lines++;
        }
        if (c == ' ' || c == '\n') {
            words++;
        }
    }
    printf("%ld %ld %ld\n", lines, words, bytes);
    return 0;
}
