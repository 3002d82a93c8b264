/* Reading mapped files whose pages may cease to be there.
 *
 * A page of a mapped file that cannot be had (the file was cut short, its disk or share failed) raises SIGBUS in the
 * thread that touches it. Between ef_guard_enter and ef_guard_leave such a fault inside a mapping that ef_guard_add was
 * told of puts zeros where the file was, from the page on, and marks the mapping; whoever reads looks at the mark
 * afterwards and throws the result away. Every other SIGBUS goes to the handler that the host had, which is back in its
 * place when nobody reads.
 *
 * ef_guard_* exclude each other (the callers hold the GIL), except for ef_guard_handle, which runs in any thread at any
 * time: what it reads is atomic, and it calls nothing that is not safe in a signal handler. Include this file in one
 * translation unit.
 */
#ifndef EDGEFORMER_GUARD_H
#define EDGEFORMER_GUARD_H

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A mapping that is watched. Once in the list a node stays there; it is free where `end` is 0. */
typedef struct ef_mapping {
    struct ef_mapping *next;
    _Atomic uintptr_t begin, end; /* whole pages */
    uintptr_t page_bytes;
    atomic_int failed; /* zeros have taken the place of a page and all that follow */
} ef_mapping;

typedef struct ef_guard {
    _Atomic(ef_mapping *) mappings;
    struct sigaction host[2]; /* the host's handler is host[host_index] */
    atomic_int host_index;
    atomic_int entangled; /* the host's handler was set over ours, so it may call ours in turn */
    atomic_int passed;    /* signals given to the host's handler */
    int32_t readers;
    pid_t process;
} ef_guard;

static ef_guard ef_bus_guard;

/* Puts zeros from the page at `address` to the end of its mapping; returns whether there is such a mapping. */
static inline int ef_guard_cover(uintptr_t address)
{
    ef_mapping *mapping = atomic_load(&ef_bus_guard.mappings);
    while (mapping && !(atomic_load(&mapping->begin) <= address && address < atomic_load(&mapping->end)))
        mapping = mapping->next;
    if (!mapping)
        return 0;
    uintptr_t page = address & ~(mapping->page_bytes - 1);
    atomic_store(&mapping->failed, 1);
    return mmap((void *)page, atomic_load(&mapping->end) - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
           != MAP_FAILED;
}

/* Does what would have been done without us. A fault comes again on return; a signal that was sent is sent again. */
static inline void ef_guard_default(int signal, int sent)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    sigaction(signal, &action, NULL);
    if (sent)
        raise(signal);
}

static inline void ef_guard_handle(int signal, siginfo_t *info, void *context)
{
    const int error = errno, sent = info->si_code <= 0;
    if (sent || !ef_guard_cover((uintptr_t)info->si_addr)) {
        const struct sigaction *host = &ef_bus_guard.host[atomic_load(&ef_bus_guard.host_index)];
        const int again = atomic_fetch_add(&ef_bus_guard.passed, 1) && atomic_load(&ef_bus_guard.entangled);
        if (again || host->sa_handler == SIG_DFL || (host->sa_handler == SIG_IGN && !sent))
            ef_guard_default(signal, sent);
        else if (host->sa_flags & SA_SIGINFO)
            host->sa_sigaction(signal, info, context);
        else if (host->sa_handler != SIG_IGN)
            host->sa_handler(signal);
    }
    errno = error;
}

static inline int ef_guard_is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == ef_guard_handle;
}

/* Call before reading: installs the handler and lets SIGBUS through in this thread, whose mask goes to `mask`. */
static inline void ef_guard_enter(sigset_t *mask)
{
    ef_guard *guard = &ef_bus_guard;
    struct sigaction current, ours;
    sigset_t bus;
    sigemptyset(&bus);
    sigaddset(&bus, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &bus, mask);
    if (guard->process != getpid()) { /* a forked child: the parent's readers are not here */
        guard->process = getpid();
        guard->readers = 0;
    }
    guard->readers++;
    if (sigaction(SIGBUS, NULL, &current) || ef_guard_is_ours(&current))
        return;
    if (guard->readers > 1)
        atomic_store(&guard->entangled, 1);
    const int index = 1 - atomic_load(&guard->host_index);
    guard->host[index] = current;
    atomic_store(&guard->host_index, index);
    ours = current;
    ours.sa_sigaction = ef_guard_handle;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | (current.sa_flags & SA_RESTART);
    sigaction(SIGBUS, &ours, NULL);
}

/* Call after reading with the mask that ef_guard_enter gave: the last reader puts the host's handler back. */
static inline void ef_guard_leave(const sigset_t *mask)
{
    ef_guard *guard = &ef_bus_guard;
    struct sigaction current;
    if (--guard->readers == 0 && sigaction(SIGBUS, NULL, &current) == 0) {
        if (ef_guard_is_ours(&current))
            sigaction(SIGBUS, &guard->host[atomic_load(&guard->host_index)], NULL);
        else
            atomic_store(&guard->entangled, 1);
    }
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

/* A node that is free, or NULL: then give a new one, zeroed and never to be freed, to ef_guard_append first. */
static inline ef_mapping *ef_guard_free_node(void)
{
    ef_mapping *mapping = atomic_load(&ef_bus_guard.mappings);
    while (mapping && atomic_load(&mapping->end))
        mapping = mapping->next;
    return mapping;
}

static inline void ef_guard_append(ef_mapping *mapping)
{
    mapping->next = atomic_load(&ef_bus_guard.mappings);
    atomic_store(&ef_bus_guard.mappings, mapping);
}

/* Watches `bytes` > 0 bytes from `base`, which lies on a page, in a free node of the list. */
static inline void ef_guard_watch(ef_mapping *mapping, const void *base, size_t bytes)
{
    mapping->page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    atomic_store(&mapping->failed, 0);
    atomic_store(&mapping->begin, (uintptr_t)base);
    atomic_store(&mapping->end, (uintptr_t)base + (bytes + mapping->page_bytes - 1) / mapping->page_bytes * mapping->page_bytes);
}

/* Watches no more; call it before the pages are unmapped. */
static inline void ef_guard_forget(ef_mapping *mapping)
{
    atomic_store(&mapping->end, 0);
}

#endif
