/* Does one kind of work and prints how many nanoseconds it took, by the monotonic clock.
 *
 *   work cpu            integer arithmetic that no compiler can leave out
 *   work memory         copies between two buffers larger than the caches
 *   work write FILE     writes a file from its start to its end, and syncs it
 *   work read FILE      reads a file from its start to its end
 *   work metadata DIR   makes, renames and removes files
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MEBIBYTE (1024 * 1024)
#define FILE_MEBIBYTES 64
#define BUFFER_MEBIBYTES 64
#define FILES 2000

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void cpu(void)
{
    volatile uint64_t result;
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 60 * 1000 * 1000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    result = state;
    (void)result;
}

static void memory(char *from, char *to)
{
    for (int i = 0; i < 8; i++) {
        memcpy(to, from, BUFFER_MEBIBYTES * (size_t)MEBIBYTE);
        __asm__ volatile("" : : "r"(to) : "memory");
    }
}

static void write_file(const char *path, const char *bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0)
        fail(path);
    for (int i = 0; i < FILE_MEBIBYTES; i++)
        if (write(fd, bytes, MEBIBYTE) != MEBIBYTE)
            fail(path);
    if (fdatasync(fd) != 0)
        fail(path);
    close(fd);
}

static void read_file(const char *path, char *bytes)
{
    ssize_t got;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        fail(path);
    while ((got = read(fd, bytes, MEBIBYTE)) > 0)
        ;
    if (got < 0)
        fail(path);
    close(fd);
}

static void metadata(const char *dir)
{
    char name[256], other[256];
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "%s/a%d", dir, i);
        snprintf(other, sizeof other, "%s/b%d", dir, i);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        if (fd < 0)
            fail(name);
        close(fd);
        if (rename(name, other) != 0 || unlink(other) != 0)
            fail(other);
    }
}

int main(int count, char **arguments)
{
    const char *kind = count > 1 ? arguments[1] : "";
    const char *path = count > 2 ? arguments[2] : "";
    char *from = malloc(BUFFER_MEBIBYTES * (size_t)MEBIBYTE);
    char *to = malloc(BUFFER_MEBIBYTES * (size_t)MEBIBYTE);
    if (!from || !to)
        fail("malloc");
    memset(from, 1, BUFFER_MEBIBYTES * (size_t)MEBIBYTE);
    memset(to, 2, BUFFER_MEBIBYTES * (size_t)MEBIBYTE);
    uint64_t begin = now();
    if (!strcmp(kind, "cpu"))
        cpu();
    else if (!strcmp(kind, "memory"))
        memory(from, to);
    else if (!strcmp(kind, "write"))
        write_file(path, from);
    else if (!strcmp(kind, "read"))
        read_file(path, to);
    else if (!strcmp(kind, "metadata"))
        metadata(path);
    else
        return 2;
    printf("%llu\n", (unsigned long long)(now() - begin));
    return 0;
}
