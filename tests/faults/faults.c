/* A layer between a program and its files that fails on demand, for tests/crash.rs. Loaded with LD_PRELOAD, it counts what the
 * program does to files under FAULTS_UNDER: opening one to write, writing, syncing, cutting, renaming, removing, making a folder. At
 * operation FAULTS_AT it does as FAULTS_DO says:
 *
 *   kill    the process is killed in place of the operation
 *   half    the same, but a write gets half way
 *   power   the same, and what was written and not synced is lost, as when the power fails (folders are taken to be synced)
 *   NUMBER  this operation and every one after it fails with this errno
 *
 * FAULTS_COUNT names a file for the number of operations, written when the program ends by itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 4096
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static char under[PATH_MAX];
static const char *action = "";
static long at, done;
static char watched[FDS];
/* Files with data that is not synced: a descriptor of our own, and the length that is safe. */
static struct { dev_t dev; ino_t ino; int fd; off_t safe; } dirty[FDS];
static int dirties;

__attribute__((constructor)) static void start(void)
{
    const char *folder = getenv("FAULTS_UNDER"), *number = getenv("FAULTS_AT"), *what = getenv("FAULTS_DO");
    if (folder) snprintf(under, sizeof under, "%s", folder);
    if (number) at = atol(number);
    if (what) action = what;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("FAULTS_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%ld\n", done);
    fclose(file);
}

static int is_under(const char *path)
{
    size_t length = strlen(under);
    return length && strncmp(path, under, length) == 0;
}

static int is_watched(int fd)
{
    return fd >= 0 && fd < FDS && watched[fd];
}

static void die(void)
{
    if (strcmp(action, "power") == 0)
        for (int i = 0; i < dirties; i++) {
            struct stat now;
            if (fstat(dirty[i].fd, &now)) abort();
            if (now.st_size > dirty[i].safe && REAL(ftruncate)(dirty[i].fd, dirty[i].safe)) abort();
        }
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts an operation. Returns 0 if it is to go on, else the errno with which it is to fail. For a write, `half` is set if half of
 * it is to be done before `die`. */
static int count(int *half)
{
    done++;
    if (!at || done < at) return 0;
    int number = atoi(action);
    if (number) return number;
    if (done > at) return 0;
    if (half && strcmp(action, "kill")) {
        *half = 1;
        return 0;
    }
    die();
    return 0;
}

/* Notes that what `fd` holds beyond its present length may be lost. */
static void soil(int fd)
{
    struct stat now;
    if (fstat(fd, &now) || !S_ISREG(now.st_mode)) return;
    for (int i = 0; i < dirties; i++)
        if (dirty[i].dev == now.st_dev && dirty[i].ino == now.st_ino) return;
    if (dirties == FDS) abort();
    dirty[dirties].dev = now.st_dev;
    dirty[dirties].ino = now.st_ino;
    dirty[dirties].safe = now.st_size;
    dirty[dirties].fd = fcntl(fd, F_DUPFD_CLOEXEC, 1024);
    if (dirty[dirties].fd < 0) abort();
    dirties++;
}

static void clean(int fd)
{
    struct stat now;
    if (fstat(fd, &now)) return;
    for (int i = 0; i < dirties; i++) {
        if (dirty[i].dev != now.st_dev || dirty[i].ino != now.st_ino) continue;
        REAL(close)(dirty[i].fd);
        dirty[i] = dirty[--dirties];
        return;
    }
}

/* Runs `call` as a counted operation that returns -1 when it fails. */
#define COUNTED(is_ours, call)                                \
    do {                                                      \
        if (!(is_ours)) return call;                          \
        pthread_mutex_lock(&mutex);                           \
        int failed = count(NULL);                             \
        __typeof__(call) result = failed ? -1 : call;         \
        int number = failed ? failed : errno;                 \
        pthread_mutex_unlock(&mutex);                         \
        errno = number;                                       \
        return result;                                        \
    } while (0)

static int open_with(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    int ours = (flags & O_ACCMODE) != O_RDONLY && is_under(path);
    if (!ours) return real(path, flags, mode);
    pthread_mutex_lock(&mutex);
    int failed = count(NULL);
    int fd = failed ? -1 : real(path, flags, mode);
    int number = failed ? failed : errno;
    if (fd >= 0 && fd < FDS) watched[fd] = 1;
    pthread_mutex_unlock(&mutex);
    errno = number;
    return fd;
}

#define MODE                         \
    mode_t mode = 0;                 \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest;                \
        va_start(rest, flags);       \
        mode = va_arg(rest, mode_t); \
        va_end(rest);                \
    }

int open(const char *path, int flags, ...)
{
    MODE
    return open_with(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE
    return open_with(REAL(open64), path, flags, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS) watched[fd] = 0;
    return REAL(close)(fd);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    if (!is_watched(fd)) return REAL(write)(fd, bytes, length);
    pthread_mutex_lock(&mutex);
    int half = 0, failed = count(&half);
    ssize_t result = -1;
    if (!failed) {
        soil(fd);
        result = REAL(write)(fd, bytes, half ? length / 2 : length);
        if (half) die();
    }
    int number = failed ? failed : errno;
    pthread_mutex_unlock(&mutex);
    errno = number;
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count_of_parts)
{
    if (!is_watched(fd)) return REAL(writev)(fd, parts, count_of_parts);
    /* A short write is allowed, and the caller goes on with the rest. */
    for (int i = 0; i < count_of_parts; i++)
        if (parts[i].iov_len) return write(fd, parts[i].iov_base, parts[i].iov_len);
    return 0;
}

static int sync_with(int (*real)(int), int fd)
{
    if (!is_watched(fd)) return real(fd);
    pthread_mutex_lock(&mutex);
    int failed = count(NULL);
    int result = failed ? -1 : real(fd);
    int number = failed ? failed : errno;
    if (result == 0) clean(fd);
    pthread_mutex_unlock(&mutex);
    errno = number;
    return result;
}

int fsync(int fd) { return sync_with(REAL(fsync), fd); }
int fdatasync(int fd) { return sync_with(REAL(fdatasync), fd); }
int ftruncate(int fd, off_t length) { COUNTED(is_watched(fd), REAL(ftruncate)(fd, length)); }
int ftruncate64(int fd, off_t length) { COUNTED(is_watched(fd), REAL(ftruncate)(fd, length)); }
int rename(const char *from, const char *to) { COUNTED(is_under(to), REAL(rename)(from, to)); }
int unlink(const char *path) { COUNTED(is_under(path), REAL(unlink)(path)); }
int rmdir(const char *path) { COUNTED(is_under(path), REAL(rmdir)(path)); }
int mkdir(const char *path, mode_t mode) { COUNTED(is_under(path), REAL(mkdir)(path, mode)); }

/* How folders are emptied: `at` is an open folder, of which only the descriptor is known. */
int unlinkat(int folder, const char *path, int flags)
{
    char link[64], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, name, sizeof name - 1);
    name[length > 0 ? length : 0] = 0;
    COUNTED(is_under(name), REAL(unlinkat)(folder, path, flags));
}
