/* Reads a scenario file: one thing a line, `kind key=value ...`, strings percent-encoded. `series`, `process` and `mig` lines belong to
 * the `gpu` (or `mig`, or `process`) line before them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

Scenario scenario;

static const char *series_names[SERIES_COUNT] = {
    [S_UTIL] = "util",           [S_MEMORY_UTIL] = "memory_util",   [S_MEMORY] = "memory",
    [S_POWER] = "power",         [S_MODULE_POWER] = "module_power", [S_SM_CLOCK] = "sm_clock",
    [S_MEMORY_CLOCK] = "memory_clock", [S_TEMPERATURE] = "temperature", [S_PSTATE] = "pstate",
    [S_REASONS] = "reasons",     [S_PCIE_TX] = "pcie_tx",           [S_PCIE_RX] = "pcie_rx",
    [S_SM] = "sm",               [S_MEM] = "mem",
    [S_GR_ACTIVE] = "gr_active", [S_SM_ACTIVE] = "sm_active",       [S_SM_OCCUPANCY] = "sm_occupancy",
    [S_TENSOR] = "tensor",       [S_FP64] = "fp64",                 [S_FP32] = "fp32",
    [S_FP16] = "fp16",           [S_DRAM] = "dram",
    [S_NVLINK_TX] = "nvlink_tx", [S_NVLINK_RX] = "nvlink_rx",
};

static const char *fault_names[] = {"init", "lost", "code", "field", "slow", "garbage", "energy_reset", "count"};

static Device *current_gpu, *current_device;
static Process *current_process;

static char *decoded(const char *text) {
    char *out = malloc(strlen(text) + 1), *to = out;
    for (; *text; text++) {
        unsigned byte;
        if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1) {
            *to++ = (char)byte;
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
    return out;
}

/* The value of `key=` in a line's words, or NULL. */
static const char *word(char **words, int count, const char *key) {
    size_t length = strlen(key);
    for (int i = 0; i < count; i++)
        if (strncmp(words[i], key, length) == 0 && words[i][length] == '=') return words[i] + length + 1;
    return NULL;
}

static int64_t number(char **words, int count, const char *key, int64_t otherwise) {
    const char *text = word(words, count, key);
    return text ? strtoll(text, NULL, 10) : otherwise;
}

static char *string(char **words, int count, const char *key, const char *otherwise) {
    const char *text = word(words, count, key);
    return text ? decoded(text) : (otherwise ? strdup(otherwise) : NULL);
}

static void read_gpu(char **words, int count) {
    Device *gpu = calloc(1, sizeof *gpu);
    gpu->index = scenario.gpu_count;
    gpu->uuid = string(words, count, "uuid", "GPU-0");
    gpu->name = string(words, count, "name", "Stand-in GPU");
    gpu->pci = string(words, count, "pci", "00000000:00:00.0");
    gpu->serial = string(words, count, "serial", "0");
    gpu->memory = number(words, count, "memory", 0);
    gpu->reserved = number(words, count, "reserved", 0);
    gpu->limit_mw = number(words, count, "limit_mw", 0);
    gpu->arch = (int)number(words, count, "arch", 0);
    gpu->cc_major = (int)number(words, count, "cc_major", 0);
    gpu->cc_minor = (int)number(words, count, "cc_minor", 0);
    gpu->pcie_gen = (int)number(words, count, "pcie_gen", 0);
    gpu->pcie_width = (int)number(words, count, "pcie_width", 0);
    gpu->counter_bits = (int)number(words, count, "counter_bits", 32);
    gpu->util_period = number(words, count, "util_period", 0);
    gpu->energy_period = number(words, count, "energy_period", 0);
    gpu->energy_base_mj = number(words, count, "energy_base_mj", 0);
    gpu->process_period = number(words, count, "process_period", 0);
    gpu->module_scope_only = number(words, count, "module_scope_only", 0) != 0;
    gpu->power_averages = number(words, count, "power_averages", 1) != 0;
    gpu->privileged = number(words, count, "privileged", 0) != 0;
    gpu->mig_enabled = number(words, count, "mig_enabled", 0) != 0;
    gpu->mig_max = (int)number(words, count, "mig_max", 0);
    gpu->power_period = number(words, count, "power_period", 0);
    gpu->power_window = number(words, count, "power_window", gpu->power_period);
    gpu->power_sample_period = number(words, count, "power_sample_period", 20000000);
    gpu->gpm = number(words, count, "gpm", 0) != 0;
    gpu->buffered = number(words, count, "buffered", 1) != 0;
    gpu->process_ring = number(words, count, "process_ring", 0) != 0;
    scenario.gpus[scenario.gpu_count++] = gpu;
    current_gpu = current_device = gpu;
    current_process = NULL;
}

static void read_mig(char **words, int count) {
    Device *mig = calloc(1, sizeof *mig);
    mig->parent = current_gpu;
    mig->index = (int)number(words, count, "index", current_gpu->mig_count);
    mig->uuid = string(words, count, "uuid", "MIG-0");
    mig->name = string(words, count, "name", current_gpu->name);
    mig->memory = number(words, count, "memory", 0);
    mig->reserved = number(words, count, "reserved", 0);
    mig->gi = (int)number(words, count, "gi", 0);
    mig->ci = (int)number(words, count, "ci", 0);
    mig->gi_slices = (int)number(words, count, "gi_slices", 1);
    mig->ci_slices = (int)number(words, count, "ci_slices", 1);
    mig->multiprocessors = (int)number(words, count, "multiprocessors", 14);
    current_gpu->migs[current_gpu->mig_count++] = mig;
    current_device = mig;
    current_process = NULL;
}

static void read_process(char **words, int count) {
    Process *process = &current_device->processes[current_device->process_count++];
    const char *kinds = word(words, count, "kinds");
    process->pid = (unsigned)number(words, count, "pid", 0);
    process->sample_pid = (unsigned)number(words, count, "sample_pid", 0);
    process->pid_file = string(words, count, "pid_file", NULL);
    process->elsewhere = number(words, count, "elsewhere", 0) != 0;
    process->memory = number(words, count, "memory", 0);
    process->start = number(words, count, "start", INT64_MIN);
    process->end = number(words, count, "end", NEVER);
    for (const char *kind = kinds ? kinds : "c"; *kind && process->kind_count < 3; kind++)
        process->kinds[process->kind_count++] = *kind == 'g' ? K_GRAPHICS : *kind == 'm' ? K_MPS : K_COMPUTE;
    current_process = process;
}

static bool read_series(char **words, int count) {
    for (int name = 0; name < SERIES_COUNT; name++) {
        if (strcmp(words[1], series_names[name]) != 0) continue;
        Series *series = &current_device->series[name];
        if (name == S_SM) series = &current_process->sm;
        if (name == S_MEM) series = &current_process->mem;
        series->count = count - 2;
        series->times = calloc((size_t)count, sizeof *series->times);
        series->values = calloc((size_t)count, sizeof *series->values);
        for (int i = 0; i < count - 2; i++) {
            char *colon = strchr(words[i + 2], ':');
            if (!colon) return false;
            series->times[i] = strtoll(words[i + 2], NULL, 10);
            series->values[i] = strtoll(colon + 1, NULL, 10);
        }
        return true;
    }
    return false;
}

static bool read_fault(char **words, int count) {
    Fault *fault = &scenario.faults[scenario.fault_count++];
    for (unsigned kind = 0; kind < sizeof fault_names / sizeof *fault_names; kind++) {
        if (strcmp(words[1], fault_names[kind]) != 0) continue;
        fault->kind = (enum FaultKind)kind;
        fault->symbol = string(words, count, "symbol", "*");
        fault->what = string(words, count, "what", "");
        fault->gpu = (int)number(words, count, "gpu", -1);
        fault->field = (int)number(words, count, "field", -1);
        fault->scope = (int)number(words, count, "scope", -1);
        fault->code = (int)number(words, count, "code", 0);
        fault->from = number(words, count, "from", INT64_MIN);
        fault->to = number(words, count, "to", NEVER);
        fault->value = number(words, count, "value", 0);
        fault->sleep_ns = number(words, count, "sleep_ns", 0);
        fault->spin_ns = number(words, count, "spin_ns", 0);
        fault->times = (int)number(words, count, "times", -1);
        return true;
    }
    return false;
}

static void read_event(char **words, int count) {
    Event *event = &scenario.events[scenario.event_count++];
    event->gpu = (int)number(words, count, "gpu", 0);
    event->at = number(words, count, "at", 0);
    event->type = (uint64_t)number(words, count, "type", 0);
    event->data = (uint64_t)number(words, count, "data", 0);
    event->gi = (int)number(words, count, "gi", -1);
    event->ci = (int)number(words, count, "ci", -1);
}

static bool read_line(char *line) {
    int capacity = 2, count = 0;
    for (char *c = line; *c; c++) capacity += *c == ' ';
    char **words = calloc((size_t)capacity, sizeof *words), *rest = NULL;
    for (char *w = strtok_r(line, " \n", &rest); w; w = strtok_r(NULL, " \n", &rest)) words[count++] = w;
    bool ok = true;
    if (count == 0 || words[0][0] == '#') {
        ok = true;
    } else if (strcmp(words[0], "driver") == 0) {
        scenario.version = string(words, count, "version", "0.0");
        scenario.nvml_version = string(words, count, "nvml", "0.0");
        scenario.cuda = (int)number(words, count, "cuda", 0);
        scenario.epoch = number(words, count, "epoch", -1);
        scenario.clock_file = string(words, count, "clock_file", NULL);
    } else if (strcmp(words[0], "gpu") == 0 && scenario.gpu_count < MAX_GPUS) {
        read_gpu(words, count);
    } else if (strcmp(words[0], "mig") == 0 && current_gpu && current_gpu->mig_count < MAX_MIGS) {
        read_mig(words, count);
    } else if (strcmp(words[0], "process") == 0 && current_device && current_device->process_count < MAX_PROCESSES) {
        read_process(words, count);
    } else if (strcmp(words[0], "series") == 0 && count > 2 && current_device) {
        ok = read_series(words, count);
    } else if (strcmp(words[0], "fault") == 0 && count > 1 && scenario.fault_count < MAX_FAULTS) {
        ok = read_fault(words, count);
    } else if (strcmp(words[0], "event") == 0 && scenario.event_count < MAX_EVENTS) {
        read_event(words, count);
    } else {
        ok = false;
    }
    free(words);
    return ok;
}

bool load_scenario(const char *path) {
    FILE *file = path ? fopen(path, "r") : NULL;
    char *line = NULL;
    size_t size = 0;
    memset(&scenario, 0, sizeof scenario); /* what an earlier one allocated is left: it is small, and handles may point to it */
    scenario.epoch = -1;
    scenario.version = scenario.nvml_version = (char *)"0.0";
    current_gpu = current_device = NULL;
    current_process = NULL;
    if (!file) {
        fprintf(stderr, "stand-in driver: no scenario at %s (GPUCOST_DRIVER_SCENARIO)\n", path ? path : "(unset)");
        return false;
    }
    while (getline(&line, &size, file) > 0) {
        char *copy = strdup(line);
        if (!read_line(line)) {
            fprintf(stderr, "stand-in driver: not understood: %s", copy);
            fclose(file);
            return false;
        }
        free(copy);
    }
    free(line);
    fclose(file);
    return true;
}
