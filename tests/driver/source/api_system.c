/* Library, system, handles, identity. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

static pthread_mutex_t load_lock = PTHREAD_MUTEX_INITIALIZER;
static bool loaded;

static int copy(char *out, unsigned length, const char *text) {
    if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return SUCCESS;
}

EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&load_lock);
    if (!loaded) {
        loaded = load_scenario(getenv("GPUCOST_DRIVER_SCENARIO"));
        if (loaded) start_clock();
    }
    pthread_mutex_unlock(&load_lock);
    if (!loaded) return UNKNOWN_ERROR;
    ENTER(NULL);
    references++;
    return SUCCESS;
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void) {
    ENTER(NULL);
    references--;
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(int code) {
    static char text[64];
    snprintf(text, sizeof text, "stand-in error %d", code);
    return text;
}

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    ENTER(NULL);
    return copy(version, length, scenario.version);
}

EXPORT int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    ENTER(NULL);
    return copy(version, length, scenario.nvml_version);
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    ENTER(NULL);
    *version = scenario.cuda;
    return SUCCESS;
}

EXPORT int nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    ENTER(NULL);
    *count = (unsigned)visible_gpus();
    return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index >= (unsigned)visible_gpus()) {
        ENTER(NULL);
        return INVALID_ARGUMENT;
    }
    ENTER(scenario.gpus[index]);
    *device = scenario.gpus[index];
    return SUCCESS;
}

static Device *by_text(const char *text, bool by_pci) {
    for (int i = 0; i < visible_gpus(); i++) {
        Device *gpu = scenario.gpus[i];
        if (strcmp(by_pci ? gpu->pci : gpu->uuid, text) == 0) return gpu;
        for (int m = 0; m < gpu->mig_count && !by_pci; m++)
            if (strcmp(gpu->migs[m]->uuid, text) == 0) return gpu->migs[m];
    }
    return NULL;
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    Device *found = references ? by_text(uuid, false) : NULL;
    ENTER(found);
    *device = found;
    return found ? SUCCESS : NOT_FOUND;
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, Device **device) {
    Device *found = references ? by_text(pci, true) : NULL;
    ENTER(found);
    *device = found;
    return found ? SUCCESS : NOT_FOUND;
}

EXPORT int nvmlDeviceGetIndex(Device *device, unsigned *index) {
    ENTER(device);
    *index = (unsigned)device->index;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) {
    ENTER(device);
    return copy(uuid, length, device->uuid);
}

EXPORT int nvmlDeviceGetName(Device *device, char *name, unsigned length) {
    ENTER(device);
    return copy(name, length, device->name);
}

EXPORT int nvmlDeviceGetSerial(Device *device, char *serial, unsigned length) {
    ENTER(device);
    return device->parent ? NOT_SUPPORTED : copy(serial, length, device->serial);
}

EXPORT int nvmlDeviceGetMinorNumber(Device *device, unsigned *minor) {
    ENTER(device);
    if (device->parent) return NOT_SUPPORTED;
    *minor = (unsigned)device->index;
    return SUCCESS;
}

typedef struct {
    char legacy_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char id[32];
} PciInfo;

EXPORT int nvmlDeviceGetPciInfo_v3(Device *device, PciInfo *info) {
    ENTER(device);
    const Device *gpu = device->parent ? device->parent : device;
    memset(info, 0, sizeof *info);
    sscanf(gpu->pci, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    info->device_id = 0x233010de;
    snprintf(info->id, sizeof info->id, "%s", gpu->pci);
    snprintf(info->legacy_id, sizeof info->legacy_id, "%04x:%02x:%02x.0", info->domain & 0xffff, info->bus & 0xff, info->device & 0xff);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetBrand(Device *device, unsigned *brand) {
    ENTER(device);
    *brand = 14; /* NVIDIA */
    return SUCCESS;
}

EXPORT int nvmlDeviceGetArchitecture(Device *device, unsigned *architecture) {
    ENTER(device);
    *architecture = (unsigned)(device->parent ? device->parent : device)->arch;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    ENTER(device);
    const Device *gpu = device->parent ? device->parent : device;
    *major = gpu->cc_major;
    *minor = gpu->cc_minor;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetBusType(Device *device, unsigned *type) {
    ENTER(device);
    *type = 2; /* PCIe */
    return SUCCESS;
}

EXPORT int nvmlDeviceGetNumGpuCores(Device *device, unsigned *cores) {
    ENTER(device);
    if (device->parent) return NOT_SUPPORTED;
    *cores = 16896;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeMode(Device *device, unsigned *mode) {
    ENTER(device);
    *mode = 0; /* default: shared */
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPersistenceMode(Device *device, unsigned *mode) {
    ENTER(device);
    *mode = 1;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetVirtualizationMode(Device *device, unsigned *mode) {
    ENTER(device);
    *mode = (unsigned)garbled(device, "virtualization", 0); /* none, unless a scenario says otherwise */
    return SUCCESS;
}

/* MIG */

EXPORT int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    ENTER(device);
    if (device->mig_max == 0) return NOT_SUPPORTED;
    *current = *pending = device->mig_enabled;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    ENTER(device);
    *count = (unsigned)(device->mig_enabled ? device->mig_max : 0);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **mig) {
    ENTER(device);
    for (int i = 0; i < device->mig_count; i++) {
        if (device->migs[i]->index != (int)index) continue;
        *mig = device->migs[i];
        return SUCCESS;
    }
    return index < (unsigned)device->mig_max ? NOT_FOUND : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceIsMigDeviceHandle(Device *device, unsigned *is_mig) {
    ENTER(device);
    *is_mig = device->parent != NULL;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *mig, Device **device) {
    ENTER(mig);
    if (!mig->parent) return INVALID_ARGUMENT;
    *device = mig->parent;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuInstanceId(Device *mig, unsigned *id) {
    ENTER(mig);
    if (!mig->parent) return INVALID_ARGUMENT;
    *id = (unsigned)mig->gi;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeInstanceId(Device *mig, unsigned *id) {
    ENTER(mig);
    if (!mig->parent) return INVALID_ARGUMENT;
    *id = (unsigned)mig->ci;
    return SUCCESS;
}

typedef struct {
    unsigned id, p2p, slices, instances, multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned long long memory_mb;
} ProfileInfo;

/* Only the profile of the whole GPU: the fourth is of seven slices, the third of four. Needs no privilege. */
EXPORT int nvmlDeviceGetGpuInstanceProfileInfo(Device *device, unsigned profile, ProfileInfo *info) {
    ENTER(device);
    if (!device->mig_enabled || profile != (device->mig_max == 7 ? 4 : 3)) return NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->id = profile;
    info->slices = (unsigned)device->mig_max;
    info->memory_mb = (unsigned long long)((device->memory - device->reserved) >> 20);
    return SUCCESS;
}

typedef struct {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gi_slices, ci_slices;
    unsigned long long memory_mb;
} Attributes;

EXPORT int nvmlDeviceGetAttributes_v2(Device *device, Attributes *attributes) {
    ENTER(device);
    if (!device->parent) return NOT_SUPPORTED;
    memset(attributes, 0, sizeof *attributes);
    attributes->multiprocessors = (unsigned)device->multiprocessors;
    attributes->gi_slices = (unsigned)device->gi_slices;
    attributes->ci_slices = (unsigned)device->ci_slices;
    attributes->memory_mb = (unsigned long long)(device->memory >> 20);
    return SUCCESS;
}
