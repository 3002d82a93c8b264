/* Zeroed memory straight from the kernel: committed page by page as it is written, given back whole when unmapped. */
#ifndef EDGEFORMER_MEMORY_H
#define EDGEFORMER_MEMORY_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

/* Large pages are asked for from here on: they save the address lookups of a matrix that is streamed through. They have
 * this size where pages have 4 KiB. Where these have 16 or 64 KiB (the Raspberry Pi 5's kernel has 16), large ones have 32
 * or 512 MiB, for which nothing is aligned; the system may still join some pages of a stretch that asks. */
#define EF_LARGE_PAGE ((size_t)2 << 20)
#define EF_SMALL_PAGE ((size_t)4096)

/* What to map beyond `bytes` bytes so that they can start on a large page; 0 for short ones, and where there is no such
 * page. */
static inline size_t ef_memory_slack(size_t bytes)
{
    return bytes >= EF_LARGE_PAGE && (size_t)sysconf(_SC_PAGESIZE) == EF_SMALL_PAGE ? EF_LARGE_PAGE : 0;
}

/* Of `bytes` + `slack` mapped bytes keeps `bytes` that start on a large page; slack is a large page, or 0 to change
 * nothing. */
static inline uint8_t *ef_memory_trim(uint8_t *base, size_t bytes, size_t slack)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t head = slack ? (EF_LARGE_PAGE - ((uintptr_t)base & (EF_LARGE_PAGE - 1))) & (EF_LARGE_PAGE - 1) : 0;
    if (head)
        munmap(base, head);
    if (head < slack)
        munmap(base + head + (bytes + page - 1) / page * page, slack - head);
    return base + head;
}

/* Asks for large pages, which the system may decline. */
static inline void ef_memory_ask_large(void *base, size_t bytes)
{
#ifdef MADV_HUGEPAGE
    madvise(base, bytes, MADV_HUGEPAGE);
#else
    (void)base, (void)bytes;
#endif
}

/* `bytes` > 0 zeroed bytes on a page boundary, or NULL. With `large_pages`, long stretches start on a large page and the
 * system is asked for such pages; without, memory is committed in the smallest steps there are. */
static inline void *ef_memory_map(size_t bytes, int large_pages)
{
    size_t slack = large_pages ? ef_memory_slack(bytes) : 0;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    uint8_t *base = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    base = ef_memory_trim(base, bytes, slack);
    if (large_pages && bytes >= EF_LARGE_PAGE)
        ef_memory_ask_large(base, bytes);
    return base;
}

/* A file of `bytes` > 0 bytes mapped for reading, or NULL with errno set. Large pages need an address that is aligned as
 * the place in the file is; the file system decides whether it caches the file in such. */
static inline void *ef_memory_map_file(int descriptor, size_t bytes)
{
    size_t slack = ef_memory_slack(bytes);
    if (bytes > SIZE_MAX / 2) {
        errno = ENOMEM;
        return NULL;
    }
    uint8_t *base = mmap(NULL, bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    base = ef_memory_trim(base, bytes, slack);
    if (mmap(base, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, descriptor, 0) == MAP_FAILED) {
        int error = errno;
        munmap(base, bytes);
        errno = error;
        return NULL;
    }
    ef_memory_ask_large(base, bytes);
    return base;
}

/* A copy of `bytes` > 0 bytes of machine code on a page boundary, to be run and no longer written; NULL with errno set where
 * the system does not allow that. */
static inline void *ef_memory_map_code(const void *code, size_t bytes)
{
    char *base = ef_memory_map(bytes, 0);
    if (!base)
        return NULL;
    memcpy(base, code, bytes);
    __builtin___clear_cache(base, base + bytes);
    if (mprotect(base, bytes, PROT_READ | PROT_EXEC)) {
        int error = errno;
        munmap(base, bytes);
        errno = error;
        return NULL;
    }
    return base;
}

/* Gives free memory of the C library's heap back to the system, which some libraries keep for later. */
static inline void ef_memory_trim_heap(void)
{
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

/* Gives back what one of them returned for the same number of bytes. NULL is allowed. */
static inline void ef_memory_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, bytes);
}

#endif
