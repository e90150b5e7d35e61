/* A stand-in for NVIDIA's management library: the part of NVML's interface that a recorder uses, answered from a scenario file.
 *
 * Nothing here talks to hardware. Every value is computed from timelines, so a test knows the exact truth. Layouts follow nvml.h; the
 * meaning of the scenario's lines is in ../README.md.
 */
#ifndef STAND_IN_DRIVER_H
#define STAND_IN_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    TIMED_OUT = 10,
    GPU_IS_LOST = 15,
    ARGUMENT_VERSION_MISMATCH = 25,
    UNKNOWN_ERROR = 999,
};

#define NS_PER_S INT64_C(1000000000)
#define NEVER INT64_MAX
#define EXPORT __attribute__((visibility("default")))
#define MAX_GPUS 16
#define MAX_MIGS 8
#define MAX_PROCESSES 64
#define MAX_FAULTS 64
#define MAX_EVENTS 64

/* A step function of time: values[i] holds from times[i] on, values[0] also before it. */
typedef struct {
    int count;
    int64_t *times;
    int64_t *values;
} Series;

enum SeriesName {
    S_UTIL,         /* thousandths of a percent */
    S_MEMORY_UTIL,  /* thousandths of a percent */
    S_MEMORY,       /* bytes allocated, without the reserve; without a series: the sum of the processes' */
    S_POWER,        /* mW */
    S_MODULE_POWER, /* mW; of a module that holds CPU and GPU */
    S_SM_CLOCK,     /* MHz */
    S_MEMORY_CLOCK, /* MHz */
    S_TEMPERATURE,  /* degrees Celsius */
    S_PSTATE,
    S_REASONS, /* NVML's bits */
    S_PCIE_TX, /* bytes per second */
    S_PCIE_RX, /* bytes per second */
    S_SM,      /* of a process: thousandths of a percent */
    S_MEM,     /* of a process: thousandths of a percent */
    S_GR_ACTIVE, /* of true activity, thousandths of a percent of cycles; without a series: the utilization */
    S_SM_ACTIVE,
    S_SM_OCCUPANCY,
    S_TENSOR,
    S_FP64,
    S_FP32,
    S_FP16,
    S_DRAM,
    S_NVLINK_TX, /* bytes per second */
    S_NVLINK_RX, /* bytes per second */
    SERIES_COUNT,
};

enum ProcessKind { K_COMPUTE, K_GRAPHICS, K_MPS };

typedef struct {
    unsigned pid, sample_pid; /* sample_pid, if not 0: what samples call it, where they speak of another namespace */
    char *pid_file; /* if not NULL: the pid is what this file says, and the process is gone when that pid is */
    bool elsewhere; /* the pid is one of another namespace: it is not asked whether it lives */
    enum ProcessKind kinds[3];
    int kind_count;
    int64_t memory; /* bytes; negative: the driver does not say */
    int64_t start, end;
    Series sm, mem;
} Process;

typedef struct Device Device;

struct Device {
    int index;
    Device *parent; /* of a MIG device, else NULL */
    char *uuid, *name, *pci, *serial;
    int64_t memory, reserved, limit_mw;
    int arch, cc_major, cc_minor;
    int pcie_gen, pcie_width, counter_bits;
    int64_t util_period, energy_period, energy_base_mj, process_period;
    int64_t power_period, power_window, power_sample_period;
    bool module_scope_only, power_averages, privileged, gpm, buffered, process_ring;
    Series series[SERIES_COUNT];
    Process processes[MAX_PROCESSES];
    int process_count;
    bool mig_enabled;
    int mig_max, mig_count;
    Device *migs[MAX_MIGS];
    int gi, ci, gi_slices, ci_slices, multiprocessors;
};

enum FaultKind { F_INIT, F_LOST, F_CODE, F_FIELD, F_SLOW, F_GARBAGE, F_ENERGY_RESET, F_COUNT };

typedef struct {
    enum FaultKind kind;
    char *symbol; /* "*" is any */
    char *what;   /* F_GARBAGE: which value */
    int gpu;      /* -1 is any */
    int field, scope, code;
    int64_t from, to, value, sleep_ns, spin_ns;
    int times; /* how often it still strikes; -1 is for ever */
} Fault;

/* What the driver tells those who wait for it. */
typedef struct {
    int gpu, gi, ci;
    int64_t at;
    uint64_t type, data;
} Event;

typedef struct {
    char *version, *nvml_version;
    int cuda;
    int64_t epoch;      /* CLOCK_MONOTONIC at time zero; -1: at the first init */
    char *clock_file;   /* if not NULL: the time is the int64 in it (nanoseconds), and stands still between a test's writes */
    Device *gpus[MAX_GPUS];
    int gpu_count;
    Fault faults[MAX_FAULTS];
    int fault_count;
    Event events[MAX_EVENTS];
    int event_count;
} Scenario;

/* One per exported symbol that was called; counts its calls. */
typedef struct Entry {
    const char *symbol;
    uint64_t calls;
    bool known;
    struct Entry *next;
} Entry;

extern Scenario scenario;

/* scenario.c */
bool load_scenario(const char *path);

/* truth.c */
void start_clock(void);
int64_t now_ns(void);
uint64_t unix_us(int64_t t);
int64_t value_at(const Series *series, int64_t t);
__int128 integral(const Series *series, int64_t from, int64_t to);
int64_t mean_over(const Series *series, int64_t from, int64_t to);
int64_t cycles_mean(const Series *series, const Series *clock, int64_t from, int64_t to);
int64_t power_at(const Device *device, const Series *power, int64_t t);
unsigned utilization_at(const Device *device, const Series *series, int64_t t);
uint64_t energy_mj(const Device *device, int64_t t);
uint64_t pcie_bytes(const Device *device, const Series *series, int64_t t);
uint64_t reason_ns(const Device *device, uint64_t bit, int64_t t);
unsigned pid_of(const Process *process, int64_t t);
int64_t memory_in_use(const Device *device, int64_t t);

/* entry.c */
int enter(Entry *entry, const Device *device);
int field_fault(const Device *device, unsigned field, unsigned scope);
int64_t garbled(const Device *device, const char *what, int64_t value);
int visible_gpus(void);
extern int references;

/* Every exported function begins with this: counts the call, and lets the scenario's faults strike. */
#define ENTER(device)                              \
    static Entry entry_ = {.symbol = __func__};    \
    int code_ = enter(&entry_, (device));          \
    if (code_ != SUCCESS) return code_

#endif
