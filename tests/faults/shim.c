/* Makes the n-th write below a folder fail, in the process that loads this library first.
 *
 *     cc -shared -fPIC -O1 -o shim.so shim.c -ldl
 *     LD_PRELOAD=./shim.so python …
 *
 * Processes that the process starts are armed by the variable FAULTS_ARM ("NUMBER ERROR LASTING
 * FOLDER"); each adds its count to the file that FAULTS_COUNTS names.
 *
 * Counted are: opening to write, write, rename, truncate, sync, closing a stream, new folders.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char folder[PATH_MAX];
static long target = -1;
static int failure, lasting;
static atomic_long count;

/* failure: an errno, or 0 to kill the process; lasting: whether all later writes fail too. */
void fault_arm(const char *below, long number, int error, int last)
{
    snprintf(folder, sizeof folder, "%s", below);
    failure = error;
    lasting = last;
    atomic_store(&count, 0);
    target = number;
}

long fault_count(void) { return atomic_load(&count); }

__attribute__((constructor)) static void arm_as_told(void)
{
    long number;
    int error, last, at;
    const char *told = getenv("FAULTS_ARM");
    if (told != NULL && sscanf(told, "%ld %d %d %n", &number, &error, &last, &at) == 3)
        fault_arm(told + at, number, error, last);
}

__attribute__((destructor)) static void tell_count(void)
{
    const char *told = getenv("FAULTS_COUNTS");
    int handle = told == NULL ? -1 : open(told, O_WRONLY | O_APPEND | O_CREAT, 0600);
    folder[0] = 0;
    if (handle >= 0) {
        dprintf(handle, "%ld\n", fault_count());
        close(handle);
    }
}

static int hit(void)
{
    long number = atomic_fetch_add(&count, 1) + 1;
    if (target < 1 || (lasting ? number < target : number != target))
        return 0;
    if (failure == 0)
        kill(getpid(), SIGKILL);
    errno = failure;
    return 1;
}

static int below_path(const char *path)
{
    char whole[PATH_MAX];
    size_t length = strlen(folder);
    if (length == 0 || path == NULL)
        return 0;
    if (path[0] != '/') {
        char here[PATH_MAX / 2];
        if (getcwd(here, sizeof here) == NULL)
            return 0;
        snprintf(whole, sizeof whole, "%s/%s", here, path);
        path = whole;
    }
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int below_handle(int handle)
{
    char link[64], path[PATH_MAX];
    if (folder[0] == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return below_path(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define ON_HANDLE(kind, name, arguments, values)                                                  \
    kind name arguments { return below_handle(handle) && hit() ? -1 : REAL(name) values; }
#define ON_PATH(kind, name, arguments, values)                                                    \
    kind name arguments { return below_path(path) && hit() ? -1 : REAL(name) values; }

ON_HANDLE(ssize_t, write, (int handle, const void *data, size_t size), (handle, data, size))
ON_HANDLE(ssize_t, pwrite, (int handle, const void *data, size_t size, off_t at),
          (handle, data, size, at))
ON_HANDLE(ssize_t, pwrite64, (int handle, const void *data, size_t size, off64_t at),
          (handle, data, size, at))
ON_HANDLE(ssize_t, writev, (int handle, const struct iovec *parts, int number),
          (handle, parts, number))
ON_HANDLE(int, ftruncate, (int handle, off_t size), (handle, size))
ON_HANDLE(int, ftruncate64, (int handle, off64_t size), (handle, size))
ON_HANDLE(int, fsync, (int handle), (handle))
ON_HANDLE(int, fdatasync, (int handle), (handle))
ON_PATH(int, mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(int, rename, (const char *from, const char *path), (from, path))
ON_PATH(int, renameat, (int here, const char *from, int there, const char *path),
        (here, from, there, path))

#define OPENING(name)                                                                             \
    int name(const char *path, int flags, ...)                                                    \
    {                                                                                             \
        va_list rest;                                                                             \
        va_start(rest, flags);                                                                    \
        mode_t mode = va_arg(rest, mode_t);                                                       \
        va_end(rest);                                                                             \
        int writing = (flags & O_ACCMODE) != O_RDONLY;                                            \
        return writing && below_path(path) && hit() ? -1 : REAL(name)(path, flags, mode);         \
    }
OPENING(open)
OPENING(open64)

#define OPENING_STREAM(name)                                                                      \
    FILE *name(const char *path, const char *mode)                                                \
    {                                                                                             \
        int writing = strpbrk(mode, "wa+") != NULL;                                               \
        return writing && below_path(path) && hit() ? NULL : REAL(name)(path, mode);              \
    }
OPENING_STREAM(fopen)
OPENING_STREAM(fopen64)

size_t fwrite(const void *data, size_t size, size_t number, FILE *stream)
{
    return below_handle(fileno(stream)) && hit() ? 0 : REAL(fwrite)(data, size, number, stream);
}

int fclose(FILE *stream)
{
    int fails = below_handle(fileno(stream)) && hit();
    int error = errno;
    int closed = REAL(fclose)(stream);
    errno = fails ? error : errno;
    return fails ? EOF : closed;
}
