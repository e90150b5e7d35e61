/* Field values and buffered samples: many readings in one call. */
#include <string.h>

#include "driver.h"

enum { DOUBLE = 0, UNSIGNED_INT = 1, UNSIGNED_LONG_LONG = 3 };

#define SAMPLE_CAPACITY 120

typedef union {
    double d;
    unsigned ui;
    unsigned long ul;
    unsigned long long ull;
    long long sll;
    int si;
} Value;

typedef struct {
    unsigned id, scope;
    long long timestamp_us, latency_us;
    unsigned type;
    int code;
    Value value;
} Field;

static void set(Field *field, unsigned type, uint64_t value) {
    field->type = type;
    field->code = SUCCESS;
    if (type == UNSIGNED_INT) {
        memset(&field->value, 0xa5, sizeof field->value); /* the union's other bytes mean nothing: nobody may read them */
        field->value.ui = (unsigned)value;
    } else {
        field->value.ull = value;
    }
}

static void answer_power(Device *device, Field *field, int64_t t) {
    bool average = field->id == 185, module = field->scope == 1;
    const Series *power = &device->series[module ? S_MODULE_POWER : S_POWER];
    field->code = NOT_SUPPORTED;
    if (field->scope > 1 || (device->module_scope_only && !module) || (module && power->count == 0)) return;
    if (average && !device->power_averages) return;
    int64_t value = average ? mean_over(power, t - NS_PER_S, t) : power_at(device, power, t);
    set(field, UNSIGNED_INT, (uint64_t)garbled(device, average ? "power_average" : "power", value));
}

static void answer_energy(Device *device, Field *field, int64_t t) {
    field->code = NOT_SUPPORTED;
    if (device->module_scope_only && (field->id == 83 || field->scope != 1)) return;
    if (!device->module_scope_only && field->scope != 0) return;
    set(field, UNSIGNED_LONG_LONG, (uint64_t)garbled(device, "energy", (int64_t)energy_mj(device, t)));
}

static void answer_pcie(Device *device, Field *field, int64_t t) {
    bool sends = field->id == 197;
    uint64_t bytes = pcie_bytes(device, &device->series[sends ? S_PCIE_TX : S_PCIE_RX], t);
    bytes = (uint64_t)garbled(device, sends ? "pcie_tx" : "pcie_rx", (int64_t)bytes);
    set(field, device->counter_bits == 32 ? UNSIGNED_INT : UNSIGNED_LONG_LONG, bytes);
}

/* Of all links together; whole KiB. */
static void answer_nvlink(Device *device, Field *field, int64_t t) {
    const Series *rate = &device->series[field->id == 138 ? S_NVLINK_TX : S_NVLINK_RX];
    field->code = NOT_SUPPORTED;
    if (rate->count == 0 || field->scope != 0xffffffffu) return;
    set(field, UNSIGNED_LONG_LONG, t > 0 ? (uint64_t)(integral(rate, 0, t) / NS_PER_S / 1024) : 0);
}

static void answer(Device *device, Field *field, int64_t t) {
    switch (field->id) {
        case 185: /* power, average */
        case 186: /* power, instantaneous */
            answer_power(device, field, t);
            break;
        case 83: /* energy since the driver was loaded */
        case 191:
            answer_energy(device, field, t);
            break;
        case 197: /* bytes sent */
        case 198: /* bytes received */
            answer_pcie(device, field, t);
            break;
        case 138: /* NVLink, sent */
        case 139: /* received */
            answer_nvlink(device, field, t);
            break;
        case 187: /* the limits: lowest, highest, default, current, requested */
            set(field, UNSIGNED_INT, (uint64_t)device->limit_mw / 4);
            break;
        case 188:
        case 189:
        case 190:
        case 192:
            set(field, UNSIGNED_INT, (uint64_t)device->limit_mw);
            break;
        case 74: /* time spent with a reason, ns */
            set(field, UNSIGNED_LONG_LONG, reason_ns(device, 0x4, t));
            break;
        case 76:
            set(field, UNSIGNED_LONG_LONG, reason_ns(device, 0x10, t));
            break;
        case 269:
            set(field, UNSIGNED_LONG_LONG, reason_ns(device, 0x20, t));
            break;
        case 270:
            set(field, UNSIGNED_LONG_LONG, reason_ns(device, 0x40, t));
            break;
        case 271:
            set(field, UNSIGNED_LONG_LONG, reason_ns(device, 0x80, t));
            break;
        default:
            field->code = NOT_SUPPORTED;
    }
}

EXPORT int nvmlDeviceGetFieldValues(Device *device, int count, Field *fields) {
    ENTER(device);
    if (count < 0) return INVALID_ARGUMENT;
    int64_t t = now_ns();
    for (int i = 0; i < count; i++) {
        Field *field = &fields[i];
        field->timestamp_us = (long long)unix_us(t);
        field->latency_us = 0;
        int fault = field_fault(device, field->id, field->scope);
        if (device->parent)
            field->code = NOT_SUPPORTED;
        else if (fault != SUCCESS)
            field->code = fault;
        else
            answer(device, field, t);
    }
    return SUCCESS;
}

typedef struct {
    unsigned long long time_us;
    Value value;
} Sample;

static unsigned sample_value(Device *device, unsigned type, int64_t t) {
    if (type == 0) return (unsigned)garbled(device, "power", power_at(device, &device->series[S_POWER], t));
    if (type == 7) return (unsigned)power_at(device, &device->series[S_MODULE_POWER], t);
    return (unsigned)garbled(device, type == 1 ? "util" : "memory_util",
                             utilization_at(device, &device->series[type == 1 ? S_UTIL : S_MEMORY_UTIL], t));
}

static bool samples_exist(const Device *device, unsigned type) {
    if (!device->buffered || device->parent) return false;
    if (type == 0) return !device->module_scope_only;
    if (type == 7) return device->series[S_MODULE_POWER].count > 0;
    return (type == 1 || type == 2) && !device->mig_enabled;
}

/* Types 0 and 7 (power of the GPU, of the module), 1 and 2 (utilization of GPU and memory), oldest first, from a ring of 120. */
EXPORT int nvmlDeviceGetSamples(Device *device, unsigned type, unsigned long long last_seen_us, unsigned *value_type, unsigned *count,
                                Sample *samples) {
    ENTER(device);
    if (!samples_exist(device, type)) return NOT_SUPPORTED;
    bool is_power = type == 0 || type == 7;
    int64_t period = is_power || device->util_period == 0 ? device->power_sample_period : device->util_period;
    int64_t newest = now_ns() / period, oldest = newest - SAMPLE_CAPACITY + 1;
    if (oldest < 0) oldest = 0;
    while (oldest <= newest && unix_us(oldest * period) <= last_seen_us) oldest++;
    unsigned found = (unsigned)(newest - oldest + 1);
    if (found == 0) return NOT_FOUND;
    *value_type = UNSIGNED_INT;
    if (samples) {
        if (*count < found) return INSUFFICIENT_SIZE;
        for (unsigned i = 0; i < found; i++) {
            int64_t t = (oldest + i) * period;
            samples[i].time_us = unix_us(t);
            samples[i].value.ui = sample_value(device, type, t);
        }
    }
    *count = found;
    return SUCCESS;
}
