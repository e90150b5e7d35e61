/* Who is on a device, and what each did. */
#include "driver.h"

#define NONE 0xffffffffu
#define RING_NS (10 * NS_PER_S)

typedef struct {
    unsigned pid;
    unsigned long long memory;
    unsigned gi, ci;
} ProcessInfo;

static bool is_of(const Process *process, enum ProcessKind kind) {
    for (int i = 0; i < process->kind_count; i++)
        if (process->kinds[i] == kind) return true;
    return false;
}

static unsigned list(const Device *device, enum ProcessKind kind, int64_t t, unsigned capacity, ProcessInfo *out) {
    unsigned found = 0;
    for (int i = 0; i < device->process_count; i++) {
        const Process *process = &device->processes[i];
        unsigned pid = is_of(process, kind) ? pid_of(process, t) : 0;
        if (pid == 0) continue;
        if (out && found < capacity) {
            out[found].pid = (unsigned)garbled(device, "process_pid", pid);
            out[found].memory = process->memory < 0 ? ~0ULL : (unsigned long long)process->memory;
            out[found].memory = (unsigned long long)garbled(device, "process_memory", (int64_t)out[found].memory);
            out[found].gi = device->parent ? (unsigned)device->gi : NONE;
            out[found].ci = device->parent ? (unsigned)device->ci : NONE;
        }
        found++;
    }
    return found;
}

static int running(Device *device, enum ProcessKind kind, unsigned *count, ProcessInfo *infos) {
    if (device->mig_enabled && !device->privileged) return NO_PERMISSION;
    int64_t t = now_ns();
    unsigned found = list(device, kind, t, 0, NULL);
    if (found > (infos ? *count : 0)) {
        *count = found;
        return INSUFFICIENT_SIZE;
    }
    *count = infos ? list(device, kind, t, *count, infos) : 0;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned *count, ProcessInfo *infos) {
    ENTER(device);
    return running(device, K_COMPUTE, count, infos);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(Device *device, unsigned *count, ProcessInfo *infos) {
    ENTER(device);
    return running(device, K_GRAPHICS, count, infos);
}

EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v3(Device *device, unsigned *count, ProcessInfo *infos) {
    ENTER(device);
    return running(device, K_MPS, count, infos);
}

/* The second version has the same layout. */
EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(Device *device, unsigned *count, ProcessInfo *infos) {
    ENTER(device);
    return running(device, K_COMPUTE, count, infos);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v2(Device *device, unsigned *count, ProcessInfo *infos) {
    ENTER(device);
    return running(device, K_GRAPHICS, count, infos);
}

EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v2(Device *device, unsigned *count, ProcessInfo *infos) {
    ENTER(device);
    return running(device, K_MPS, count, infos);
}

typedef struct {
    unsigned pid;
    unsigned long long time_us;
    unsigned sm, mem, enc, dec;
} ProcessSample;

/* Where samples go: none beyond the capacity, for between the asking how many there are and the writing of them another may fall due. */
typedef struct {
    ProcessSample *samples;
    unsigned capacity;
} Room;

static const Room nowhere = {NULL, 0};

static unsigned percent(int64_t thousandths) { return (unsigned)((thousandths + 500) / 1000); }

static bool add_sample(const Device *device, const Process *process, int64_t begin, int64_t t, unsigned sm, unsigned index,
                       Room out) {
    unsigned pid = pid_of(process, t);
    if (pid == 0 || sm == 0) return false;
    if (process->sample_pid) pid = process->sample_pid;
    if (index < out.capacity) {
        ProcessSample *sample = &out.samples[index];
        sample->pid = pid;
        sample->time_us = unix_us(t);
        sample->sm = (unsigned)garbled(device, "process_sm", sm);
        sample->mem = (unsigned)garbled(device, "process_mem", percent(mean_over(&process->mem, begin, t)));
        sample->enc = sample->dec = 0;
    }
    return true;
}

static unsigned mean_sm(const Process *process, int64_t begin, int64_t t) { return percent(mean_over(&process->sm, begin, t)); }

/* A number in [0, limit) that looks drawn by lot and is the same at every asking (the finalizer of splitmix64). */
static int64_t lot(uint64_t k, int64_t limit) {
    uint64_t z = (k + 1) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (int64_t)((z ^ (z >> 31)) % (uint64_t)limit);
}

/* The one process that was caught on the SMs at a sample of the ring, and the utilization of the SMs then: all processes' together. */
static const Process *caught(const Device *device, int64_t k, int64_t t, unsigned *sm) {
    int64_t sum = 0;
    for (int i = 0; i < device->process_count; i++)
        if (pid_of(&device->processes[i], t)) sum += value_at(&device->processes[i].sm, t);
    if (sum <= 0) return NULL;
    *sm = percent(sum < 100000 ? sum : 100000);
    int64_t drawn = lot((uint64_t)k, sum);
    for (int i = 0; i < device->process_count; i++) {
        if (!pid_of(&device->processes[i], t)) continue;
        drawn -= value_at(&device->processes[i].sm, t);
        if (drawn < 0) return &device->processes[i];
    }
    return NULL;
}

static unsigned ring_since(const Device *device, unsigned long long last_seen_us, Room out) {
    int64_t now = now_ns(), period = device->process_period ? device->process_period : RING_NS / 72;
    unsigned found = 0;
    for (int64_t k = now > RING_NS ? (now - RING_NS) / period + 1 : 0; k * period <= now; k++) {
        unsigned sm = 0;
        int64_t t = k * period;
        const Process *process = unix_us(t) > last_seen_us ? caught(device, k, t, &sm) : NULL;
        if (process && add_sample(device, process, t, t, sm, found, out)) found++;
    }
    return found;
}

/* Samples of every process, at multiples of the sample period since `last_seen_us`; without a period, one average of that time. */
static unsigned samples_since(const Device *device, unsigned long long last_seen_us, Room out) {
    int64_t now = now_ns(), period = device->process_period, first = now - RING_NS;
    unsigned found = 0;
    if (device->process_ring) return ring_since(device, last_seen_us, out);
    while (first < now && unix_us(first) < last_seen_us) {
        int64_t behind = (int64_t)(last_seen_us - unix_us(first)) * 1000;
        first = first + behind < now ? first + behind : now;
    }
    for (int i = 0; i < device->process_count; i++) {
        const Process *process = &device->processes[i];
        if (period == 0) {
            if (first < now && add_sample(device, process, first, now, mean_sm(process, first, now), found, out)) found++;
            continue;
        }
        int64_t k = first < 0 ? -(-first / period) : first / period;
        for (; k * period <= now; k++) {
            int64_t t = k * period;
            if (t >= 0 && t > now - RING_NS && unix_us(t) > last_seen_us &&
                add_sample(device, process, t, t, mean_sm(process, t, t), found, out))
                found++;
        }
    }
    return found;
}

EXPORT int nvmlDeviceGetProcessUtilization(Device *device, ProcessSample *samples, unsigned *count, unsigned long long last_seen_us) {
    ENTER(device);
    if (device->parent || device->mig_enabled) return NOT_SUPPORTED;
    unsigned found = samples_since(device, last_seen_us, nowhere);
    if (found == 0) return NOT_FOUND;
    if (found > (samples ? *count : 0)) {
        *count = found;
        return INSUFFICIENT_SIZE;
    }
    found = samples_since(device, last_seen_us, (Room){samples, *count});
    if (found < *count) *count = found;
    return SUCCESS;
}

typedef struct {
    unsigned long long time_us;
    unsigned pid, sm, mem, enc, dec, jpg, ofa;
} ProcessSample2;

typedef struct {
    unsigned version, count;
    unsigned long long last_seen_us;
    ProcessSample2 *samples;
} ProcessesUtilization;

EXPORT int nvmlDeviceGetProcessesUtilizationInfo(Device *device, ProcessesUtilization *info) {
    ENTER(device);
    if (device->parent || device->mig_enabled) return NOT_SUPPORTED;
    if (info->version != 0x01000018) return ARGUMENT_VERSION_MISMATCH;
    unsigned found = samples_since(device, info->last_seen_us, nowhere);
    if (found == 0) return NOT_FOUND;
    if (!info->samples || info->count < found) {
        info->count = found;
        return INSUFFICIENT_SIZE;
    }
    ProcessSample flat[found];
    info->count = samples_since(device, info->last_seen_us, (Room){flat, found});
    if (info->count > found) info->count = found;
    for (unsigned i = 0; i < info->count; i++) {
        ProcessSample2 sample = {.time_us = flat[i].time_us, .pid = flat[i].pid, .sm = flat[i].sm, .mem = flat[i].mem};
        info->samples[i] = sample;
    }
    return SUCCESS;
}
