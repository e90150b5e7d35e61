/* What this device does not have: the call exists, and says so. Give one a body in another file when a test needs it. */
#include "driver.h"

#define UNSUPPORTED(symbol)        \
    EXPORT int symbol(Device *device) { \
        ENTER(device);             \
        return NOT_SUPPORTED;      \
    }

#define UNSUPPORTED_GLOBALLY(symbol) \
    EXPORT int symbol(void) {        \
        ENTER(NULL);                 \
        return NOT_SUPPORTED;        \
    }

UNSUPPORTED(nvmlDeviceGetViolationStatus)
UNSUPPORTED(nvmlDeviceGetNvLinkState)
UNSUPPORTED(nvmlDeviceGetNvLinkVersion)
UNSUPPORTED(nvmlDeviceGetNvLinkRemotePciInfo_v2)
UNSUPPORTED(nvmlDeviceGetEccMode)
UNSUPPORTED(nvmlDeviceGetTotalEccErrors)
UNSUPPORTED(nvmlDeviceGetMemoryErrorCounter)
UNSUPPORTED(nvmlDeviceGetRemappedRows)
UNSUPPORTED(nvmlDeviceGetSupportedEventTypes)
UNSUPPORTED_GLOBALLY(nvmlEventSetCreate)
UNSUPPORTED(nvmlDeviceRegisterEvents)
UNSUPPORTED_GLOBALLY(nvmlEventSetWait_v2)
UNSUPPORTED_GLOBALLY(nvmlEventSetFree)
UNSUPPORTED(nvmlDeviceGetAccountingMode)
UNSUPPORTED(nvmlDeviceSetAccountingMode)
UNSUPPORTED(nvmlDeviceGetAccountingPids)
UNSUPPORTED(nvmlDeviceGetAccountingStats)
UNSUPPORTED(nvmlGpmQueryDeviceSupport)
UNSUPPORTED_GLOBALLY(nvmlGpmSampleAlloc)
UNSUPPORTED_GLOBALLY(nvmlGpmSampleFree)
UNSUPPORTED(nvmlGpmSampleGet)
UNSUPPORTED(nvmlGpmMigSampleGet)
UNSUPPORTED_GLOBALLY(nvmlGpmMetricsGet)
