/* As much of nvidia-smi as recorders ask of it: --query-gpu and --query-compute-apps as CSV, from the driver at hand. It starts in less time than
 * the real one, which only favours whoever calls it. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    unsigned pid;
    unsigned long long memory;
    unsigned gi, ci;
} Process;

static void *library;

#define CALL(name, ...) ((int (*)()) dlsym(library, name))(__VA_ARGS__)

static void print_processes(void *gpu) {
    Process processes[64];
    unsigned count = 64;
    if (CALL("nvmlDeviceGetComputeRunningProcesses_v3", gpu, &count, processes)) return;
    for (unsigned i = 0; i < count; i++) printf("%u, %llu MiB\n", processes[i].pid, processes[i].memory >> 20);
}

static void print_gpu(void *gpu, int totals) {
    char uuid[96] = "";
    unsigned long long memory[3] = {0};
    unsigned utilization[2] = {0};
    CALL("nvmlDeviceGetUUID", gpu, uuid, (unsigned)sizeof uuid);
    CALL("nvmlDeviceGetMemoryInfo", gpu, memory);
    if (totals) {
        printf("%s, %llu MiB\n", uuid, memory[0] >> 20);
        return;
    }
    CALL("nvmlDeviceGetUtilizationRates", gpu, utilization);
    printf("%s, %llu MiB, %u %%\n", uuid, memory[2] >> 20, utilization[0]);
}

int main(int argc, char **argv) {
    int processes = 0, totals = 0;
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        processes |= strncmp(argv[i], "--query-compute-apps", 20) == 0;
        totals |= strstr(argv[i], "memory.total") != NULL;
    }
    library = dlopen("libnvidia-ml.so.1", RTLD_NOW);
    if (!library || CALL("nvmlInit_v2") || CALL("nvmlDeviceGetCount_v2", &count)) return 9;
    puts(processes ? "pid, used_gpu_memory [MiB]" : totals ? "uuid, memory.total [MiB]" : "uuid, memory.used [MiB], utilization.gpu [%]");
    for (unsigned i = 0; i < count; i++) {
        void *gpu = NULL;
        if (CALL("nvmlDeviceGetHandleByIndex_v2", i, &gpu)) continue;
        if (processes)
            print_processes(gpu);
        else
            print_gpu(gpu, totals);
    }
    return 0;
}
