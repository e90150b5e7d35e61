/* A command with a fixed amount of work that times itself: `work cpu ROUNDS [PID_FILE]` computes, `work syscalls ROUNDS [PID_FILE]` asks the
 * kernel. With a PID file it sleeps first, until a recorder beside it has started. Prints the nanoseconds that the work took, by the clock
 * and of CPU. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t compute(long rounds) {
    static uint64_t table[1 << 13];
    uint64_t state = 88172645463325252u;
    for (long i = 0; i < rounds * 1000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        table[state & 8191] += state;
    }
    return table[5];
}

static uint64_t ask(long rounds) {
    char block[4096];
    int in = open("/dev/zero", O_RDONLY), out = open("/dev/null", O_WRONLY);
    uint64_t sum = 0;
    for (long i = 0; i < rounds * 10; i++) {
        sum += (uint64_t)read(in, block, sizeof block);
        sum += (uint64_t)write(out, block, sizeof block);
    }
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    FILE *file = argc > 3 ? fopen(argv[3], "w") : NULL;
    if (file) {
        fprintf(file, "%d", (int)getpid());
        fclose(file);
        sleep(2);
    }
    int64_t began = now_ns(CLOCK_MONOTONIC), began_cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    volatile uint64_t result = strcmp(argv[1], "cpu") == 0 ? compute(atol(argv[2])) : ask(atol(argv[2]));
    (void)result;
    int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - began_cpu;
    printf("%" PRId64 " %" PRId64 "\n", now_ns(CLOCK_MONOTONIC) - began, cpu);
    return 0;
}
