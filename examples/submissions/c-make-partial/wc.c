#include <stdio.h>

/* Takes spaces and newlines for what separates words, and forgets the tab. */
int main(void) {
    long lines = 0, words = 0, bytes = 0;
    int c, inside = 0;

    while ((c = getchar()) != EOF) {
        bytes++;
        if (c == '\n') {
            lines++;
        }
        if (c == ' ' || c == '\n') {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            words++;
        }
    }
    printf("%ld %ld %ld\n", lines, words, bytes);
    return 0;
}
