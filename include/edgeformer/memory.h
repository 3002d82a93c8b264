/* Zeroed memory straight from the kernel: committed page by page as it is written, given back whole when unmapped. */
#ifndef EDGEFORMER_MEMORY_H
#define EDGEFORMER_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Large pages are asked for from here on: they save the address lookups of a matrix that is streamed through. */
#define EF_LARGE_PAGE ((size_t)2 << 20)

/* `bytes` > 0 zeroed bytes on a page boundary, or NULL. With `large_pages`, long stretches start on a large page and the
 * system is asked for such pages (it may decline); without, memory is committed in the smallest steps there are. */
static inline void *ef_memory_map(size_t bytes, int large_pages)
{
    size_t slack = large_pages && bytes >= 2 * EF_LARGE_PAGE ? EF_LARGE_PAGE : 0;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    uint8_t *base = mmap(NULL, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    if (slack == 0)
        return base;
    size_t head = (EF_LARGE_PAGE - ((uintptr_t)base & (EF_LARGE_PAGE - 1))) & (EF_LARGE_PAGE - 1);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (head)
        munmap(base, head);
    if (head < slack)
        munmap(base + head + (bytes + page - 1) / page * page, slack - head);
#ifdef MADV_HUGEPAGE
    madvise(base + head, bytes, MADV_HUGEPAGE);
#endif
    return base + head;
}

/* A file of `bytes` > 0 bytes mapped for reading, or NULL with errno set. */
static inline void *ef_memory_map_file(int descriptor, size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
    return base == MAP_FAILED ? NULL : base;
}

/* Gives back what either returned for the same number of bytes. NULL is allowed. */
static inline void ef_memory_unmap(void *memory, size_t bytes)
{
    if (memory)
        munmap(memory, bytes);
}

#endif
