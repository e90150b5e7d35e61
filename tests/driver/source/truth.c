/* What is true at an instant: everything is computed from the timelines, in integers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define STANDING_CLOCK_US UINT64_C(1700000000000000) /* UTC at time zero when a test moves the clock */

static volatile const int64_t *standing_clock;
static int64_t zero_mono, zero_real;

static int64_t read_clock(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

void start_clock(void) {
    int64_t mono = read_clock(CLOCK_MONOTONIC);
    zero_mono = scenario.epoch >= 0 ? scenario.epoch : mono;
    zero_real = read_clock(CLOCK_REALTIME) - (mono - zero_mono);
    standing_clock = NULL;
    if (scenario.clock_file) {
        int fd = open(scenario.clock_file, O_RDONLY | O_CLOEXEC);
        void *page = fd >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
        if (page == MAP_FAILED) {
            fprintf(stderr, "stand-in driver: no clock at %s\n", scenario.clock_file);
            abort();
        }
        standing_clock = page;
        close(fd);
    }
}

int64_t now_ns(void) { return standing_clock ? *standing_clock : read_clock(CLOCK_MONOTONIC) - zero_mono; }

uint64_t unix_us(int64_t t) {
    if (standing_clock) return STANDING_CLOCK_US + (uint64_t)(t / 1000);
    return (uint64_t)((zero_real + t) / 1000);
}

int64_t value_at(const Series *series, int64_t t) {
    if (series->count == 0) return 0;
    int i = 0;
    while (i + 1 < series->count && series->times[i + 1] <= t) i++;
    return series->values[i];
}

__int128 integral(const Series *series, int64_t from, int64_t to) {
    __int128 sum = 0;
    for (int i = 0; i < series->count; i++) {
        int64_t begin = i == 0 ? INT64_MIN : series->times[i];
        int64_t end = i + 1 < series->count ? series->times[i + 1] : NEVER;
        if (begin < from) begin = from;
        if (end > to) end = to;
        if (end > begin) sum += (__int128)series->values[i] * (end - begin);
    }
    return sum;
}

int64_t mean_over(const Series *series, int64_t from, int64_t to) {
    return to > from ? (int64_t)(integral(series, from, to) / (to - from)) : value_at(series, to);
}

/* The mean over clock cycles rather than over time: where the clock is higher, what happens counts for more. */
int64_t cycles_mean(const Series *series, const Series *clock, int64_t from, int64_t to) {
    __int128 cycles = integral(clock, from, to), sum = 0;
    if (cycles <= 0) return mean_over(series, from, to);
    for (int i = 0; i < clock->count; i++) {
        int64_t begin = i == 0 || clock->times[i] < from ? from : clock->times[i];
        int64_t end = i + 1 < clock->count && clock->times[i + 1] < to ? clock->times[i + 1] : to;
        if (end > begin) sum += integral(series, begin, end) * clock->values[i];
    }
    return (int64_t)(sum / cycles);
}

static int64_t floor_to(int64_t t, int64_t period) {
    int64_t rest = t % period;
    return t - (rest < 0 ? rest + period : rest);
}

/* What the sensor says: the mean of the window before its last update; the instant where the device has no such window. */
int64_t power_at(const Device *device, const Series *power, int64_t t) {
    if (device->power_period <= 0) return value_at(power, t);
    int64_t end = floor_to(t, device->power_period);
    return mean_over(power, end - device->power_window, end);
}

/* Whole percent, over the last completed sample period; instantaneous where the device has none. */
unsigned utilization_at(const Device *device, const Series *series, int64_t t) {
    int64_t period = device->util_period, thousandths = value_at(series, t);
    if (period > 0) {
        int64_t end = floor_to(t, period);
        thousandths = mean_over(series, end - period, end);
    }
    return (unsigned)((thousandths + 500) / 1000);
}

uint64_t energy_mj(const Device *device, int64_t t) {
    int64_t from = 0, base = device->energy_base_mj;
    const Series *power = &device->series[device->module_scope_only ? S_MODULE_POWER : S_POWER];
    if (device->energy_period > 0) t = floor_to(t, device->energy_period);
    for (int i = 0; i < scenario.fault_count; i++) {
        const Fault *fault = &scenario.faults[i];
        bool hits = fault->kind == F_ENERGY_RESET && (fault->gpu < 0 || fault->gpu == device->index);
        if (hits && fault->from <= t && fault->from >= from) {
            from = fault->from;
            base = 0;
        }
    }
    return (uint64_t)(base + (t > from ? (int64_t)(integral(power, from, t) / NS_PER_S) : 0));
}

uint64_t pcie_bytes(const Device *device, const Series *series, int64_t t) {
    uint64_t bytes = t > 0 ? (uint64_t)(integral(series, 0, t) / NS_PER_S) : 0;
    return device->counter_bits < 64 ? bytes & ((UINT64_C(1) << device->counter_bits) - 1) : bytes;
}

uint64_t reason_ns(const Device *device, uint64_t bit, int64_t t) {
    const Series *reasons = &device->series[S_REASONS];
    uint64_t sum = 0;
    for (int i = 0; i < reasons->count; i++) {
        int64_t begin = i == 0 || reasons->times[i] < 0 ? 0 : reasons->times[i];
        int64_t end = i + 1 < reasons->count && reasons->times[i + 1] < t ? reasons->times[i + 1] : t;
        if (((uint64_t)reasons->values[i] & bit) && end > begin) sum += (uint64_t)(end - begin);
    }
    return sum;
}

static bool is_alive(unsigned pid) {
    char path[64], state = 0;
    if (kill((pid_t)pid, 0) != 0 && errno == ESRCH) return false;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    bool read = fscanf(file, "%*d (%*[^)]) %c", &state) == 1;
    fclose(file);
    return read && state != 'Z' && state != 'X';
}

/* The process's pid at an instant, or 0 when it is not on the device. */
unsigned pid_of(const Process *process, int64_t t) {
    if (t < process->start || t >= process->end) return 0;
    if (!process->pid_file) return process->pid;
    unsigned pid = 0;
    FILE *file = fopen(process->pid_file, "r");
    if (!file) return 0;
    if (fscanf(file, "%u", &pid) != 1) pid = 0;
    fclose(file);
    return pid && (process->elsewhere || is_alive(pid)) ? pid : 0;
}

/* Bytes allocated on a device, without what the driver reserves. */
int64_t memory_in_use(const Device *device, int64_t t) {
    if (device->series[S_MEMORY].count) return value_at(&device->series[S_MEMORY], t);
    int64_t sum = 0;
    for (int i = 0; i < device->process_count; i++)
        if (device->processes[i].memory > 0 && pid_of(&device->processes[i], t)) sum += device->processes[i].memory;
    for (int i = 0; i < device->mig_count; i++) sum += memory_in_use(device->migs[i], t);
    return sum;
}
