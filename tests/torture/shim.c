/* A C library that fails: preloaded (LD_PRELOAD), it makes file operations below one folder fail, fall short or take long, and steps the
 * wall clock. What it does stands in the environment:
 *
 *   TORTURE_UNDER   the folder; operations elsewhere are left alone
 *   TORTURE_CALL    some of open, write, fsync, rename, unlink, mkdir, with commas between them
 *   TORTURE_FIRST   the first call of a process that is struck, counted from 1 (default 1)
 *   TORTURE_LAST    the last one (default: no end)
 *   TORTURE_ERRNO   what it fails with; 0: it does not fail
 *   TORTURE_SHORT   1: before it fails, a write writes half
 *   TORTURE_SLEEP_MS  how long it takes first
 *   TORTURE_SWITCH  a file; nothing is struck while it is not there
 *   TORTURE_COUNT   a file that gets a byte for each call of that kind, so that a test knows how many there are
 *   TORTURE_CLOCK   a file with nanoseconds (int64) that are added to the wall clock
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))

static const char *under, *call, *switch_file, *count_file;
static long first = 1, last = LONG_MAX, error_number, sleep_ms, short_write;
static long calls;
static const int64_t *offset_ns;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? atol(text) : otherwise;
}

__attribute__((constructor)) static void read_environment(void) {
    under = getenv("TORTURE_UNDER");
    call = getenv("TORTURE_CALL");
    switch_file = getenv("TORTURE_SWITCH");
    count_file = getenv("TORTURE_COUNT");
    first = number("TORTURE_FIRST", 1);
    last = number("TORTURE_LAST", LONG_MAX);
    error_number = number("TORTURE_ERRNO", 0);
    sleep_ms = number("TORTURE_SLEEP_MS", 0);
    short_write = number("TORTURE_SHORT", 0);
    const char *clock = getenv("TORTURE_CLOCK");
    int fd = clock ? REAL(open)(clock, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
        offset_ns = map == MAP_FAILED ? NULL : map;
        close(fd);
    }
}

static int below(const char *path) {
    if (!under || !path) return 0;
    size_t length = strlen(under);
    return !strncmp(path, under, length) && (path[length] == '/' || !path[length]);
}

static int open_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = under ? readlink(link, path, sizeof path - 1) : -1;
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this call is struck; the time it takes has passed then. */
static int struck(const char *name) {
    if (!call || !strstr(call, name)) return 0;
    if (switch_file && access(switch_file, F_OK)) return 0;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (count_file) {
        int fd = REAL(open)(count_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0) { (void)!REAL(write)(fd, ".", 1); close(fd); }
    }
    if (n < first || n > last) return 0;
    if (sleep_ms) {
        struct timespec left = {sleep_ms / 1000, sleep_ms % 1000 * 1000000};
        while (nanosleep(&left, &left) && errno == EINTR) {}
    }
    return error_number != 0;
}

#define FAIL do { errno = (int)error_number; return -1; } while (0)

ssize_t write(int fd, const void *data, size_t size) {
    if (call && strstr(call, "write") && open_below(fd) && struck("write")) {
        if (short_write && size > 1) return REAL(write)(fd, data, size / 2);
        FAIL;
    }
    return REAL(write)(fd, data, size);
}

int fsync(int fd) {
    if (call && strstr(call, "fsync") && open_below(fd) && struck("fsync")) FAIL;
    return REAL(fsync)(fd);
}

int rename(const char *from, const char *to) {
    if (below(to) && struck("rename")) FAIL;
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    if (below(path) && struck("unlink")) FAIL;
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    if (below(path) && struck("mkdir")) FAIL;
    return REAL(mkdir)(path, mode);
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                       \
        if (flags & O_CREAT && below(path) && struck("open")) FAIL;         \
        return REAL(open)(path, flags, mode);                               \
    }

OPEN(open)
OPEN(open64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    int code = REAL(clock_gettime)(clock, now);
    if (!code && clock == CLOCK_REALTIME && offset_ns) {
        int64_t ns = now->tv_nsec + *(volatile const int64_t *)offset_ns;
        now->tv_sec += ns / 1000000000;
        now->tv_nsec = ns % 1000000000;
        if (now->tv_nsec < 0) { now->tv_nsec += 1000000000; now->tv_sec--; }
    }
    return code;
}
