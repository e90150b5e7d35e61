/* Writes the monotonic time, in nanoseconds, to the file that it is given: the first thing that a command does. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

int main(int argc, char **argv) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    FILE *file = argc > 1 ? fopen(argv[1], "w") : NULL;
    if (!file) return 1;
    fprintf(file, "%" PRId64, (int64_t)t.tv_sec * 1000000000 + t.tv_nsec);
    return fclose(file) != 0;
}
