/* What a device is doing now, one call a metric. */
#include <string.h>

#include "driver.h"

/* Nearly nothing is known of a MIG device by itself; its parent answers for both. */
#define NOT_FOR_MIG(device) \
    if ((device)->parent) return NOT_SUPPORTED

typedef struct {
    unsigned gpu, memory;
} Utilization;

EXPORT int nvmlDeviceGetUtilizationRates(Device *device, Utilization *utilization) {
    ENTER(device);
    if (device->parent || device->mig_enabled) return NOT_SUPPORTED;
    int64_t t = now_ns();
    utilization->gpu = (unsigned)garbled(device, "util", utilization_at(device, &device->series[S_UTIL], t));
    utilization->memory = (unsigned)garbled(device, "memory_util", utilization_at(device, &device->series[S_MEMORY_UTIL], t));
    return SUCCESS;
}

static int coding_utilization(Device *device, unsigned *utilization, unsigned *period_us) {
    NOT_FOR_MIG(device);
    *utilization = 0;
    *period_us = (unsigned)(device->util_period / 1000);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetEncoderUtilization(Device *device, unsigned *utilization, unsigned *period_us) {
    ENTER(device);
    return coding_utilization(device, utilization, period_us);
}

EXPORT int nvmlDeviceGetDecoderUtilization(Device *device, unsigned *utilization, unsigned *period_us) {
    ENTER(device);
    return coding_utilization(device, utilization, period_us);
}

typedef struct {
    unsigned long long total, free, used;
} Memory;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} Memory2;

static int memory_of(const Device *device, int64_t *used) {
    if (device->mig_enabled && !device->privileged) return NO_PERMISSION;
    *used = garbled(device, "memory", memory_in_use(device, now_ns()));
    return SUCCESS;
}

/* The first version counts the reserve as used; the second keeps it apart: total = reserved + used + free. */
EXPORT int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    ENTER(device);
    int64_t used = 0;
    int code = memory_of(device, &used);
    if (code) return code;
    memory->total = (unsigned long long)device->memory;
    memory->used = (unsigned long long)(device->reserved + used);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory2 *memory) {
    ENTER(device);
    int64_t used = 0;
    if (memory->version != 0x02000028) return ARGUMENT_VERSION_MISMATCH;
    int code = memory_of(device, &used);
    if (code) return code;
    memory->total = (unsigned long long)device->memory;
    memory->reserved = (unsigned long long)device->reserved;
    memory->used = (unsigned long long)used;
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetBAR1MemoryInfo(Device *device, Memory *memory) {
    ENTER(device);
    memory->total = memory->free = 1ULL << 37;
    memory->used = 0;
    return SUCCESS;
}

/* A one-second average on devices that average, else the instantaneous power. */
EXPORT int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    ENTER(device);
    NOT_FOR_MIG(device);
    if (device->module_scope_only) return NOT_SUPPORTED;
    int64_t t = now_ns();
    const Series *power = &device->series[S_POWER];
    int64_t value = device->power_averages ? mean_over(power, t - NS_PER_S, t) : power_at(device, power, t);
    *milliwatts = (unsigned)garbled(device, device->power_averages ? "power_average" : "power", value);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTotalEnergyConsumption(Device *device, unsigned long long *millijoules) {
    ENTER(device);
    NOT_FOR_MIG(device);
    if (device->module_scope_only) return NOT_SUPPORTED;
    *millijoules = (unsigned long long)garbled(device, "energy", (int64_t)energy_mj(device, now_ns()));
    return SUCCESS;
}

static int limit_of(Device *device, unsigned *milliwatts) {
    NOT_FOR_MIG(device);
    if (device->limit_mw == 0) return NOT_SUPPORTED;
    *milliwatts = (unsigned)device->limit_mw;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    ENTER(device);
    return limit_of(device, milliwatts);
}

EXPORT int nvmlDeviceGetPowerManagementLimit(Device *device, unsigned *milliwatts) {
    ENTER(device);
    return limit_of(device, milliwatts);
}

EXPORT int nvmlDeviceGetPowerManagementDefaultLimit(Device *device, unsigned *milliwatts) {
    ENTER(device);
    return limit_of(device, milliwatts);
}

EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(Device *device, unsigned *lowest, unsigned *highest) {
    ENTER(device);
    *lowest = (unsigned)(device->limit_mw / 4);
    return limit_of(device, highest);
}

static int clock_of(Device *device, unsigned type, unsigned *mhz) {
    NOT_FOR_MIG(device);
    int64_t t = now_ns();
    if (type > 3) return INVALID_ARGUMENT;
    if (type == 2)
        *mhz = (unsigned)garbled(device, "memory_clock", value_at(&device->series[S_MEMORY_CLOCK], t));
    else
        *mhz = (unsigned)garbled(device, "sm_clock", value_at(&device->series[S_SM_CLOCK], t));
    return SUCCESS;
}

EXPORT int nvmlDeviceGetClockInfo(Device *device, unsigned type, unsigned *mhz) {
    ENTER(device);
    return clock_of(device, type, mhz);
}

EXPORT int nvmlDeviceGetMaxClockInfo(Device *device, unsigned type, unsigned *mhz) {
    ENTER(device);
    const Series *series = &device->series[type == 2 ? S_MEMORY_CLOCK : S_SM_CLOCK];
    NOT_FOR_MIG(device);
    *mhz = 0;
    for (int i = 0; i < series->count; i++)
        if ((unsigned)series->values[i] > *mhz) *mhz = (unsigned)series->values[i];
    return SUCCESS;
}

static int temperature_of(const Device *device) {
    return (int)garbled(device, "temperature", value_at(&device->series[S_TEMPERATURE], now_ns()));
}

EXPORT int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *celsius) {
    ENTER(device);
    NOT_FOR_MIG(device);
    if (sensor != 0) return INVALID_ARGUMENT;
    *celsius = (unsigned)temperature_of(device);
    return SUCCESS;
}

typedef struct {
    unsigned version, sensor;
    int celsius;
} Temperature;

EXPORT int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    ENTER(device);
    NOT_FOR_MIG(device);
    if (temperature->version != 0x0100000c) return ARGUMENT_VERSION_MISMATCH;
    if (temperature->sensor != 0) return INVALID_ARGUMENT;
    temperature->celsius = temperature_of(device);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPerformanceState(Device *device, unsigned *state) {
    ENTER(device);
    NOT_FOR_MIG(device);
    *state = (unsigned)garbled(device, "pstate", value_at(&device->series[S_PSTATE], now_ns()));
    return SUCCESS;
}

static int reasons_of(Device *device, unsigned long long *reasons) {
    NOT_FOR_MIG(device);
    *reasons = (unsigned long long)garbled(device, "reasons", value_at(&device->series[S_REASONS], now_ns()));
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCurrentClocksEventReasons(Device *device, unsigned long long *reasons) {
    ENTER(device);
    return reasons_of(device, reasons);
}

EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(Device *device, unsigned long long *reasons) {
    ENTER(device);
    return reasons_of(device, reasons);
}

EXPORT int nvmlDeviceGetSupportedClocksEventReasons(Device *device, unsigned long long *reasons) {
    ENTER(device);
    *reasons = 0x1ff;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetSupportedClocksThrottleReasons(Device *device, unsigned long long *reasons) {
    ENTER(device);
    *reasons = 0x1ff;
    return SUCCESS;
}

/* PCIe */

static int link_of(Device *device, int value, unsigned *out) {
    NOT_FOR_MIG(device);
    if (value == 0) return NOT_SUPPORTED;
    *out = (unsigned)value;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMaxPcieLinkGeneration(Device *device, unsigned *generation) {
    ENTER(device);
    return link_of(device, device->pcie_gen, generation);
}

EXPORT int nvmlDeviceGetCurrPcieLinkGeneration(Device *device, unsigned *generation) {
    ENTER(device);
    return link_of(device, device->pcie_gen, generation);
}

EXPORT int nvmlDeviceGetMaxPcieLinkWidth(Device *device, unsigned *width) {
    ENTER(device);
    return link_of(device, device->pcie_width, width);
}

EXPORT int nvmlDeviceGetCurrPcieLinkWidth(Device *device, unsigned *width) {
    ENTER(device);
    return link_of(device, device->pcie_width, width);
}

EXPORT int nvmlDeviceGetPcieThroughput(Device *device, unsigned counter, unsigned *kilobytes_per_second) {
    ENTER(device);
    NOT_FOR_MIG(device);
    *kilobytes_per_second = (unsigned)(value_at(&device->series[counter == 0 ? S_PCIE_TX : S_PCIE_RX], now_ns()) / 1024);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPcieReplayCounter(Device *device, unsigned *count) {
    ENTER(device);
    NOT_FOR_MIG(device);
    *count = 0;
    return SUCCESS;
}
