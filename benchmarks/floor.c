/* The floor: what the driver's calls cost by themselves. Makes the calls that gpucost makes, at the same rates, and keeps nothing.
 *
 *     cc -O2 -o floor floor.c -ldl && ./floor HZ SECONDS
 *
 * Prints the number of ticks. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NS INT64_C(1000000000)
#define MOST_GPUS 64
#define MOST_ENTRIES 64

typedef struct {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type;
    int code;
    uint64_t value;
} Field;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} Memory;

static int (*init)(void), (*count_of)(unsigned *), (*handle_of)(unsigned, void **);
static int (*fields_of)(void *, int, Field *), (*utilization_of)(void *, void *), (*memory_of)(void *, Memory *);
static int (*clock_of)(void *, unsigned, unsigned *), (*state_of)(void *, unsigned *), (*temperature_of)(void *, void *);
static int (*reasons_of)(void *, unsigned long long *);
static int (*compute_of)(void *, unsigned *, void *), (*graphics_of)(void *, unsigned *, void *), (*mps_of)(void *, unsigned *, void *);
static int (*samples_of)(void *, void *, unsigned *, unsigned long long);
static int (*buffered_of)(void *, unsigned, unsigned long long, unsigned *, unsigned *, void *);
static int (*generation_of)(void *, unsigned *), (*width_of)(void *, unsigned *);

static void *symbol(void *library, const char *name) {
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "floor: the driver has no %s\n", name);
        exit(1);
    }
    return found;
}

static void bind(void) {
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library) {
        fprintf(stderr, "floor: %s\n", dlerror());
        exit(1);
    }
    init = symbol(library, "nvmlInit_v2");
    count_of = symbol(library, "nvmlDeviceGetCount_v2");
    handle_of = symbol(library, "nvmlDeviceGetHandleByIndex_v2");
    fields_of = symbol(library, "nvmlDeviceGetFieldValues");
    utilization_of = symbol(library, "nvmlDeviceGetUtilizationRates");
    memory_of = symbol(library, "nvmlDeviceGetMemoryInfo_v2");
    clock_of = symbol(library, "nvmlDeviceGetClockInfo");
    state_of = symbol(library, "nvmlDeviceGetPerformanceState");
    reasons_of = symbol(library, "nvmlDeviceGetCurrentClocksEventReasons");
    temperature_of = symbol(library, "nvmlDeviceGetTemperatureV");
    compute_of = symbol(library, "nvmlDeviceGetComputeRunningProcesses_v3");
    graphics_of = symbol(library, "nvmlDeviceGetGraphicsRunningProcesses_v3");
    mps_of = symbol(library, "nvmlDeviceGetMPSComputeRunningProcesses_v3");
    samples_of = symbol(library, "nvmlDeviceGetProcessUtilization");
    buffered_of = symbol(library, "nvmlDeviceGetSamples");
    generation_of = symbol(library, "nvmlDeviceGetCurrPcieLinkGeneration");
    width_of = symbol(library, "nvmlDeviceGetCurrPcieLinkWidth");
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void every_tick(void *gpu) {
    Field fields[5] = {{.id = 186}, {.id = 185}, {.id = 83}, {.id = 197}, {.id = 198}};
    Memory memory = {.version = 0x02000028};
    unsigned pair[2], number, temperature[3] = {sizeof temperature | 1u << 24, 0, 0};
    unsigned long long reasons;
    fields_of(gpu, 5, fields);
    utilization_of(gpu, pair);
    memory_of(gpu, &memory);
    clock_of(gpu, 1, &number);
    clock_of(gpu, 2, &number);
    state_of(gpu, &number);
    reasons_of(gpu, &reasons);
    temperature_of(gpu, temperature);
}

static void every_second(void *gpu, int ticks_see_power) {
    Field held_down[5] = {{.id = 74}, {.id = 76}, {.id = 269}, {.id = 270}, {.id = 271}};
    static uint64_t buffer[MOST_ENTRIES * 8];
    unsigned long long before = (unsigned long long)time(NULL) * 1000000 - 1000000;
    unsigned count, type;
    compute_of(gpu, (count = MOST_ENTRIES, &count), buffer);
    graphics_of(gpu, (count = MOST_ENTRIES, &count), buffer);
    mps_of(gpu, (count = MOST_ENTRIES, &count), buffer);
    samples_of(gpu, buffer, (count = MOST_ENTRIES, &count), before);
    for (unsigned kind = ticks_see_power ? 1 : 0; kind < 3; kind++) buffered_of(gpu, kind, before, &type, (count = MOST_ENTRIES * 4, &count), buffer);
    generation_of(gpu, &count);
    width_of(gpu, &count);
    fields_of(gpu, 5, held_down);
}

int main(int argc, char **argv) {
    double hz = argc > 1 ? atof(argv[1]) : 10, seconds = argc > 2 ? atof(argv[2]) : 10;
    void *gpus[MOST_GPUS];
    unsigned count = 0;
    bind();
    if (init() || count_of(&count) || count == 0 || count > MOST_GPUS) return 1;
    for (unsigned i = 0; i < count; i++)
        if (handle_of(i, &gpus[i])) return 1;
    int64_t period = (int64_t)(1e9 / hz), began = now_ns(), second = began;
    long ticks = 0;
    for (int64_t due = began; due < began + (int64_t)(seconds * 1e9); due += period, ticks++) {
        struct timespec until = {.tv_sec = due / NS, .tv_nsec = due % NS};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        for (unsigned i = 0; i < count && due >= second; i++) every_second(gpus[i], period <= NS * 3 / 20);
        if (due >= second) second += NS;
        for (unsigned i = 0; i < count; i++) every_tick(gpus[i]);
    }
    printf("%ld\n", ticks);
    return 0;
}
