/* What the driver tells those who wait for it: XID errors, ECC errors, retired rows. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

#define NONE 0xffffffffu
#define KNOWN_TYPES 0xffbfu
#define LOOK_EVERY_NS 2000000

typedef struct {
    uint64_t types[MAX_GPUS];
    int64_t since[MAX_GPUS];
    bool told[MAX_EVENTS];
} EventSet;

typedef struct {
    Device *device;
    unsigned long long type, data;
    unsigned gi, ci;
} EventData;

EXPORT int nvmlDeviceGetSupportedEventTypes(Device *device, unsigned long long *types) {
    ENTER(device);
    if (device->parent) return NOT_SUPPORTED;
    *types = KNOWN_TYPES;
    return SUCCESS;
}

EXPORT int nvmlEventSetCreate(EventSet **set) {
    ENTER(NULL);
    *set = calloc(1, sizeof **set);
    return SUCCESS;
}

EXPORT int nvmlEventSetFree(EventSet *set) {
    ENTER(NULL);
    free(set);
    return SUCCESS;
}

EXPORT int nvmlDeviceRegisterEvents(Device *device, unsigned long long types, EventSet *set) {
    ENTER(device);
    if (device->parent || (types & ~(unsigned long long)KNOWN_TYPES)) return NOT_SUPPORTED;
    set->types[device->index] = types;
    set->since[device->index] = now_ns();
    return SUCCESS;
}

static bool next(EventSet *set, EventData *data) {
    int64_t t = now_ns();
    for (int i = 0; i < scenario.event_count; i++) {
        const Event *event = &scenario.events[i];
        if (set->told[i] || event->at > t || event->at < set->since[event->gpu]) continue;
        if (!(set->types[event->gpu] & event->type)) continue;
        set->told[i] = true;
        memset(data, 0, sizeof *data);
        data->device = scenario.gpus[event->gpu];
        data->type = event->type;
        data->data = event->data;
        data->gi = event->gi < 0 ? NONE : (unsigned)event->gi;
        data->ci = event->ci < 0 ? NONE : (unsigned)event->ci;
        return true;
    }
    return false;
}

/* How long to sleep before the next look: until the next event, so that waiting costs nothing; in small steps where a test moves the clock. */
static int64_t until_next(const EventSet *set, int64_t most) {
    if (scenario.clock_file) return most < LOOK_EVERY_NS ? most : LOOK_EVERY_NS;
    int64_t t = now_ns();
    for (int i = 0; i < scenario.event_count; i++) {
        int64_t ahead = scenario.events[i].at - t;
        if (!set->told[i] && ahead > 0 && ahead < most) most = ahead;
    }
    return most;
}

EXPORT int nvmlEventSetWait_v2(EventSet *set, EventData *data, unsigned timeout_ms) {
    ENTER(NULL);
    int64_t left = (int64_t)timeout_ms * 1000000;
    while (!next(set, data)) {
        if (left <= 0) return TIMED_OUT;
        int64_t step = until_next(set, left);
        struct timespec pause = {.tv_sec = step / NS_PER_S, .tv_nsec = step % NS_PER_S};
        nanosleep(&pause, NULL);
        left -= step;
    }
    return SUCCESS;
}
