#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    if (count < 2) {
        fprintf(stderr, "A size is needed.\n");
        return 1;
    }
    int size = atoi(words[1]) + 2;
    for (int row = 0; row < size; row++) {
        for (int column = 0; column < size; column++) {
            int edge = row == 0 || column == 0 || row == size - 1 || column == size - 1;
            putchar(edge ? '*' : ' ');
        }
        putchar('\n');
    }
}
