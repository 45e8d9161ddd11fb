#include <stdio.h>
int main(void) {
    goto end;
end:
    puts("Hello, world");
    return 0;
}
