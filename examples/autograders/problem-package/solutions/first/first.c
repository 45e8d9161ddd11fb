#include <stdio.h>

int main(void) {
    int total, count, one, other;
    if (scanf("%d %d %d %d", &total, &count, &one, &other) == 4) {
        printf("%d %d\n", one, other);
    }
    return 0;
}
