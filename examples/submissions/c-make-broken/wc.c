#include <stdio.h>

int main(void) {
    printf("%d %d %d\n", lines, words, bytes)
}
