/* What happens on the way into every call: counting, slowness, loss, refusal. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

int references;

static Entry *entries;
static pthread_mutex_t entries_lock = PTHREAD_MUTEX_INITIALIZER;

static void spend(int64_t sleep_ns, int64_t spin_ns) {
    struct timespec pause = {.tv_sec = sleep_ns / NS_PER_S, .tv_nsec = sleep_ns % NS_PER_S}, began, now;
    if (sleep_ns > 0) nanosleep(&pause, NULL);
    if (spin_ns <= 0) return;
    clock_gettime(CLOCK_MONOTONIC, &began);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - began.tv_sec) * NS_PER_S + now.tv_nsec - began.tv_nsec < spin_ns);
}

static bool strikes(Fault *fault, const Device *device, int64_t t) {
    int gpu = device ? (device->parent ? device->parent->index : device->index) : -1;
    if (fault->gpu >= 0 && fault->gpu != gpu) return false;
    if (t < fault->from || t >= fault->to || fault->times == 0) return false;
    if (fault->times > 0) fault->times--;
    return true;
}

static bool is_about(const Fault *fault, const char *symbol) {
    return strcmp(fault->symbol, "*") == 0 || strcmp(fault->symbol, symbol) == 0;
}

static void count_call(Entry *entry) {
    pthread_mutex_lock(&entries_lock);
    if (!entry->known) {
        entry->known = true;
        entry->next = entries;
        entries = entry;
    }
    entry->calls++;
    pthread_mutex_unlock(&entries_lock);
}

int enter(Entry *entry, const Device *device) {
    bool is_init = strcmp(entry->symbol, "nvmlInitWithFlags") == 0;
    count_call(entry);
    if (!is_init && references == 0) return UNINITIALIZED;
    if (scenario.fault_count == 0) return SUCCESS;
    int64_t t = now_ns();
    for (int i = 0; i < scenario.fault_count; i++) {
        Fault *fault = &scenario.faults[i];
        if (fault->kind == F_SLOW && fault->field < 0 && is_about(fault, entry->symbol) && strikes(fault, device, t))
            spend(fault->sleep_ns, fault->spin_ns);
        if (fault->kind == F_INIT && is_init && strikes(fault, NULL, t)) {
            spend(fault->sleep_ns, fault->spin_ns);
            if (fault->code) return fault->code;
        }
        if (fault->kind == F_LOST && device && strikes(fault, device, t)) return fault->code ? fault->code : GPU_IS_LOST;
        if (fault->kind == F_CODE && is_about(fault, entry->symbol) && strikes(fault, device, t)) return fault->code;
    }
    return SUCCESS;
}

/* The code that one field of a batch gets from a fault, after the time it takes; 0 for none. */
int field_fault(const Device *device, unsigned field, unsigned scope) {
    int64_t t = now_ns();
    int code = SUCCESS;
    for (int i = 0; i < scenario.fault_count; i++) {
        Fault *fault = &scenario.faults[i];
        if (fault->field != (int)field || (fault->scope >= 0 && fault->scope != (int)scope)) continue;
        if (fault->kind == F_SLOW && strikes(fault, device, t)) spend(fault->sleep_ns, fault->spin_ns);
        if (fault->kind == F_FIELD && strikes(fault, device, t)) code = fault->code;
    }
    return code;
}

/* A value on its way out, or the garbage that a fault puts in its place. */
int64_t garbled(const Device *device, const char *what, int64_t value) {
    if (scenario.fault_count == 0) return value;
    int64_t t = now_ns();
    for (int i = 0; i < scenario.fault_count; i++) {
        Fault *fault = &scenario.faults[i];
        if (fault->kind == F_GARBAGE && strcmp(fault->what, what) == 0 && strikes(fault, device, t)) value = fault->value;
    }
    return value;
}

/* How many GPUs the driver lists now: a fault can take some away (`value` of them are left). */
int visible_gpus(void) {
    int count = scenario.gpu_count;
    int64_t t = now_ns();
    for (int i = 0; i < scenario.fault_count; i++) {
        Fault *fault = &scenario.faults[i];
        if (fault->kind == F_COUNT && strikes(fault, NULL, t) && fault->value < count) count = (int)fault->value;
    }
    return count;
}

/* At the process's end, if GPUCOST_DRIVER_CALLS names a file: a line `pid symbol calls` for each symbol is appended to it. */
__attribute__((destructor)) static void write_counts(void) {
    const char *path = getenv("GPUCOST_DRIVER_CALLS");
    char line[256];
    int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0) return;
    for (const Entry *entry = entries; entry; entry = entry->next) {
        int length = snprintf(line, sizeof line, "%d %s %llu\n", (int)getpid(), entry->symbol, (unsigned long long)entry->calls);
        if (write(fd, line, (size_t)length) != length) break;
    }
    close(fd);
}
