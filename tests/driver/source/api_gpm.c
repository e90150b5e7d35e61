/* True activity (GPM): two samples of the counters, and metrics of the time between them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

enum { NO_DATA = 21 };

#define SHORTEST_NS INT64_C(100000000) /* the counters are refreshed this often: of less time nothing is known */

typedef struct {
    const Device *device; /* NULL until it was taken */
    int64_t t;
} GpmSample;

typedef struct {
    unsigned version, supported;
} Support;

typedef struct {
    unsigned id;
    int code;
    double value;
    char *short_name, *long_name, *unit;
} Metric;

typedef struct {
    unsigned version, count;
    GpmSample *first, *second;
    Metric metrics[];
} Metrics;

EXPORT int nvmlGpmQueryDeviceSupport(Device *device, Support *support) {
    ENTER(device);
    if (support->version != 1) return ARGUMENT_VERSION_MISMATCH;
    support->supported = (device->parent ? device->parent : device)->gpm;
    return SUCCESS;
}

EXPORT int nvmlGpmSampleAlloc(GpmSample **sample) {
    ENTER(NULL);
    *sample = calloc(1, sizeof **sample);
    return SUCCESS;
}

EXPORT int nvmlGpmSampleFree(GpmSample *sample) {
    ENTER(NULL);
    free(sample);
    return SUCCESS;
}

static int take(const Device *device, GpmSample *sample) {
    if (!sample) return INVALID_ARGUMENT;
    if (!(device->parent ? device->parent : device)->gpm) return NOT_SUPPORTED;
    sample->device = device;
    sample->t = now_ns();
    return SUCCESS;
}

EXPORT int nvmlGpmSampleGet(Device *device, GpmSample *sample) {
    ENTER(device);
    return take(device, sample);
}

EXPORT int nvmlGpmMigSampleGet(Device *device, unsigned gi, GpmSample *sample) {
    ENTER(device);
    for (int i = 0; i < device->mig_count; i++)
        if (device->migs[i]->gi == (int)gi) return take(device->migs[i], sample);
    return INVALID_ARGUMENT;
}

static bool percentage(const Device *device, unsigned id, const Series **series) {
    static const enum SeriesName names[] = {
        [1] = S_GR_ACTIVE, [2] = S_SM_ACTIVE, [3] = S_SM_OCCUPANCY, [5] = S_TENSOR,
        [10] = S_DRAM,     [11] = S_FP64,     [12] = S_FP32,        [13] = S_FP16,
    };
    if (id >= sizeof names / sizeof *names || names[id] == 0) return false;
    *series = &device->series[names[id] == S_GR_ACTIVE && !device->series[S_GR_ACTIVE].count ? S_UTIL : names[id]];
    return (*series)->count > 0;
}

static bool rate(const Device *device, unsigned id, const Series **series) {
    if (device->parent) return false; /* the bus is the whole GPU's */
    *series = &device->series[id == 20 ? S_PCIE_TX : id == 21 ? S_PCIE_RX : id == 60 ? S_NVLINK_RX : S_NVLINK_TX];
    return (id == 20 || id == 21 || id == 60 || id == 61) && (*series)->count > 0;
}

static void compute(const Device *device, Metric *metric, int64_t from, int64_t to) {
    const Series *series;
    const Series *clock = &(device->parent ? device->parent : device)->series[S_SM_CLOCK];
    metric->code = SUCCESS;
    if (percentage(device, metric->id, &series))
        metric->value = (double)cycles_mean(series, clock, from, to) / 1000;
    else if (rate(device, metric->id, &series))
        metric->value = (double)mean_over(series, from, to) / 1048576; /* MiB a second */
    else
        metric->code = NOT_SUPPORTED;
    if (metric->code == SUCCESS && to - from < SHORTEST_NS) metric->value = NAN;
}

/* Only as many entries as the caller says are looked at: how long the array is differs between versions of the interface. */
EXPORT int nvmlGpmMetricsGet(Metrics *metrics) {
    ENTER(NULL);
    if (metrics->version != 1) return ARGUMENT_VERSION_MISMATCH;
    const GpmSample *first = metrics->first, *second = metrics->second;
    if (!first || !second || first->device != second->device) return INVALID_ARGUMENT;
    if (!first->device || second->t <= first->t) return NO_DATA;
    for (unsigned i = 0; i < metrics->count; i++) compute(first->device, &metrics->metrics[i], first->t, second->t);
    return SUCCESS;
}
