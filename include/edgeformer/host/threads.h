/* A small pool of POSIX threads for work that is cut many times a millisecond.
 *
 * The caller is thread 0. Waiting threads spin for some tens of microseconds, then yield, then sleep: between the rounds of
 * a job they are ready within a cache miss, an idle pool costs nothing. Threads start at the first job, and again in a
 * forked child, whose parent's threads do not exist there. If the system refuses threads, there are fewer.
 *
 * One job at a time: callers of the functions below exclude each other.
 */
#ifndef EDGEFORMER_THREADS_H
#define EDGEFORMER_THREADS_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

enum { EF_MAX_THREADS = 1024, EF_SPIN_NANOSECONDS = 30000, EF_YIELD_NANOSECONDS = 150000, EF_PAUSES_A_LOOK = 32 };
enum { EF_WORKER_STACK_BYTES = 1 << 20, EF_CACHE_LINE = 64 };

/* Work in rounds of chunks. All of a round is done, and visible, before the next begins. Each thread has a share of a
 * round, neighbouring chunks that it draws in ascending order, so that it reads memory as one stream; then it helps the
 * others with theirs. */
typedef struct ef_job {
    void (*chunk)(void *context, int32_t chunk, int32_t thread);
    /* Called by the thread that finished a round's last chunk: does what must be done alone and returns how many chunks
     * the next round has; 0 ends the job. */
    int32_t (*next)(void *context, int32_t thread);
    void *context;
} ef_job;

typedef struct ef_pool ef_pool;

typedef struct ef_worker {
    ef_pool *pool;
    pthread_t handle;
    int32_t thread; /* 1 .. num_threads - 1 */
} ef_worker;

/* A ticket says what a thread's share has to draw: the count of rounds so far (32 bits), whether no job runs (1), chunks
 * that nobody has drawn (31). Only who draws a chunk looks at the job, so a thread that sleeps or is kept from its core
 * holds nobody up, not even the end of a job. */
#define EF_TICKET_ROUND ((uint64_t)1 << 32)
#define EF_TICKET_IDLE ((uint64_t)1 << 31)
#define EF_TICKET_CHUNKS (EF_TICKET_IDLE - 1)

/* One thread's share, alone on its cache line. */
typedef struct ef_share {
    _Alignas(64) _Atomic uint64_t ticket;
    int32_t end; /* one past the share's last chunk */
    _Atomic(const uint8_t *) hint; /* memory that the thread will read next, to be fetched while it waits */
    atomic_int hint_bytes;
} ef_share;

struct ef_pool {
    _Alignas(64) atomic_int unfinished; /* chunks of this round, and one more, that nobody has reported as done */
    _Alignas(64) atomic_int sleepers;   /* threads that wait on `wake` */
    atomic_int stopping;
    uint32_t round; /* this one's number; belongs to who publishes */
    ef_job job;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    ef_share *shares;    /* [max_threads] */
    ef_worker *workers;  /* [max_threads - 1] */
    int32_t max_threads; /* asked for, the caller included */
    int32_t num_threads; /* running, the caller included; 0 before the first job */
    pid_t owner;         /* the process whose threads these are */
};

static inline int64_t ef_nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Tells the core that this is a spin loop. */
static inline void ef_pause(void)
{
#if defined(__SSE2__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#elif defined(__arm__) && __ARM_ARCH >= 7
    __asm__ volatile("yield" ::: "memory");
#endif
}

/* Gives this thread the mode of floats that kernels want, whatever the host had set: to nearest, denormals flushed to zero,
 * inputs too, no exception raises a signal. Returns the mode to give to ef_restore_float_mode. */
static inline uint64_t ef_set_float_mode(void)
{
#if defined(__SSE2__)
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(0x1f80 | 0x8040); /* all masked, nearest; FTZ, DAZ */
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)1 << 24)); /* FZ; all else 0: nearest, no traps */
    return mode;
#else
    return 0;
#endif
}

static inline void ef_restore_float_mode(uint64_t mode)
{
#if defined(__SSE2__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(mode));
#else
    (void)mode;
#endif
}

/* The first chunk of a thread's share; thread num_threads stands for the end. */
static inline int32_t ef_share_begin(int32_t chunks, int32_t num_threads, int32_t thread)
{
    return (int32_t)((int64_t)chunks * thread / num_threads);
}

/* Names memory that a thread will read soon; what it finds time to fetch before that is in its cache. The memory need not
 * exist. */
static inline void ef_pool_hint(ef_pool *pool, int32_t thread, const uint8_t *memory, int32_t bytes)
{
    atomic_store_explicit(&pool->shares[thread].hint, memory, memory_order_relaxed);
    atomic_store_explicit(&pool->shares[thread].hint_bytes, bytes, memory_order_relaxed);
}

/* Whether another round, or the end of the job, has come since a thread read this ticket. */
static inline int ef_ticket_is_old(ef_share *share, uint64_t ticket)
{
    return (atomic_load_explicit(&share->ticket, memory_order_acquire) ^ ticket) >= EF_TICKET_ROUND;
}

/* Returns once the ticket is old, and fetches what it is told to meanwhile. */
static inline void ef_wait_ticket(ef_pool *pool, ef_share *share, uint64_t ticket)
{
    const uint8_t *hint = atomic_load_explicit(&share->hint, memory_order_relaxed);
    int64_t left = atomic_load_explicit(&share->hint_bytes, memory_order_relaxed);
    int64_t start = ef_nanoseconds(), waited = 0;
    while (waited < EF_YIELD_NANOSECONDS) {
        for (int i = 0; i < EF_PAUSES_A_LOOK; i++) {
            if (ef_ticket_is_old(share, ticket))
                return;
            if (left > 0) {
                __builtin_prefetch(hint, 0, 2);
                hint += EF_CACHE_LINE;
                left -= EF_CACHE_LINE;
            } else {
                ef_pause();
            }
        }
        if (waited >= EF_SPIN_NANOSECONDS)
            sched_yield();
        waited = ef_nanoseconds() - start;
    }
    /* Who publishes counts the sleepers after it wrote the ticket: it sees this one, or this one the new ticket. */
    atomic_fetch_add(&pool->sleepers, 1);
    pthread_mutex_lock(&pool->mutex);
    while (!ef_ticket_is_old(share, ticket))
        pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
}

/* Issues the tickets of a new round of `chunks` chunks, or of none, idle. Who issues them counts as one more chunk, so that
 * no round ends before all have their tickets; the caller, who may start another job, learns last that one is over. */
static inline void ef_publish(ef_pool *pool, int32_t chunks)
{
    const uint64_t round = ++pool->round * EF_TICKET_ROUND;
    atomic_store_explicit(&pool->unfinished, chunks + 1, memory_order_relaxed);
    for (int32_t thread = pool->num_threads - 1; thread >= 0; thread--) {
        ef_share *share = &pool->shares[thread];
        share->end = ef_share_begin(chunks, pool->num_threads, thread + 1);
        const int32_t count = share->end - ef_share_begin(chunks, pool->num_threads, thread);
        atomic_store_explicit(&share->ticket, round + (chunks ? (uint64_t)count : EF_TICKET_IDLE), memory_order_release);
    }
    if (atomic_fetch_add(&pool->sleepers, 0) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* Draws a chunk from a share; negative where there is none. */
static inline int32_t ef_draw(ef_share *share)
{
    uint64_t ticket = atomic_load_explicit(&share->ticket, memory_order_relaxed);
    while (ticket & EF_TICKET_CHUNKS)
        if (atomic_compare_exchange_weak_explicit(&share->ticket, &ticket, ticket - 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return share->end - (int32_t)(ticket & EF_TICKET_CHUNKS);
    return -1;
}

/* Runs chunks, the thread's own first, until there are none to draw, and goes on to the next round if the last of this one
 * was among them. done: what this thread has done of the round already. */
static inline void ef_work(ef_pool *pool, int32_t thread, int32_t done)
{
    int32_t chunks;
    do {
        for (int32_t i = 0; i < pool->num_threads; i++) {
            ef_share *share = &pool->shares[(thread + i) % pool->num_threads];
            for (int32_t chunk = ef_draw(share); chunk >= 0; chunk = ef_draw(share), done++)
                pool->job.chunk(pool->job.context, chunk, thread);
        }
        if (!done || atomic_fetch_sub_explicit(&pool->unfinished, done, memory_order_acq_rel) != done)
            return;
        chunks = pool->job.next(pool->job.context, thread);
        ef_publish(pool, chunks);
        done = 1;
    } while (chunks);
}

/* Works at rounds until the job is over; returns the ticket that said so. */
static inline uint64_t ef_work_rounds(ef_pool *pool, int32_t thread)
{
    ef_share *share = &pool->shares[thread];
    uint64_t ticket;
    while (!((ticket = atomic_load_explicit(&share->ticket, memory_order_acquire)) & EF_TICKET_IDLE)) {
        ef_work(pool, thread, 0);
        if (!ef_ticket_is_old(share, ticket))
            ef_wait_ticket(pool, share, ticket);
    }
    return ticket;
}

static inline void *ef_worker_main(void *argument)
{
    const ef_worker *worker = argument;
    ef_pool *pool = worker->pool;
    ef_set_float_mode();
    for (;;) {
        const uint64_t ticket = ef_work_rounds(pool, worker->thread);
        if (atomic_load_explicit(&pool->stopping, memory_order_acquire)) /* set before the last ticket was issued */
            return NULL;
        ef_wait_ticket(pool, &pool->shares[worker->thread], ticket);
    }
}

/* Puts a pool into the state of having no threads, whatever state another process left it in. */
static inline void ef_pool_reset(ef_pool *pool)
{
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->stopping, 0);
    pool->round = 0;
    for (int32_t thread = 0; thread < pool->max_threads; thread++) {
        atomic_store(&pool->shares[thread].ticket, EF_TICKET_IDLE);
        atomic_store(&pool->shares[thread].hint_bytes, 0);
    }
    pool->num_threads = 0;
    pool->owner = getpid();
}

/* A pool of at most `max_threads` threads, 1 .. EF_MAX_THREADS, none started; NULL where memory is short. */
static inline ef_pool *ef_pool_create(int32_t max_threads)
{
    void *memory = NULL, *shares = NULL;
    ef_worker *workers = calloc((size_t)max_threads, sizeof(ef_worker));
    if (!workers || posix_memalign(&shares, EF_CACHE_LINE, (size_t)max_threads * sizeof(ef_share)) ||
        posix_memalign(&memory, EF_CACHE_LINE, sizeof(ef_pool))) {
        free(workers);
        free(shares);
        return NULL;
    }
    ef_pool *pool = memory;
    pool->shares = shares;
    pool->workers = workers;
    pool->max_threads = max_threads;
    ef_pool_reset(pool);
    return pool;
}

/* Starts the threads that are not there yet, as many as the system grants. Signals stay with the host's threads. */
static inline void ef_pool_start(ef_pool *pool)
{
    if (pool->owner != getpid())
        ef_pool_reset(pool);
    if (pool->num_threads)
        return;
    sigset_t all, before;
    pthread_attr_t attributes;
    pool->num_threads = 1;
    if (pool->max_threads == 1 || pthread_attr_init(&attributes))
        return;
    pthread_attr_setstacksize(&attributes, EF_WORKER_STACK_BYTES);
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* faults of mapped files: a fault whose signal is blocked ends the process */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int32_t started = 1;
    while (started < pool->max_threads) {
        ef_worker *worker = &pool->workers[started - 1];
        worker->pool = pool;
        worker->thread = started;
        if (pthread_create(&worker->handle, &attributes, ef_worker_main, worker))
            break;
        started++;
    }
    pool->num_threads = started;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Runs a job whose first round has `chunks` chunks and returns when it is over. Called with ef_pool_start done. */
static inline void ef_pool_run(ef_pool *pool, ef_job job, int32_t chunks)
{
    uint64_t mode = ef_set_float_mode();
    if (pool->num_threads == 1) {
        for (; chunks; chunks = job.next(job.context, 0))
            for (int32_t chunk = 0; chunk < chunks; chunk++)
                job.chunk(job.context, chunk, 0);
    } else if (chunks) {
        pool->job = job;
        ef_publish(pool, chunks);
        ef_work(pool, 0, 1);
        ef_work_rounds(pool, 0);
    }
    ef_restore_float_mode(mode);
}

static inline int32_t ef_job_over(void *context, int32_t thread)
{
    (void)context, (void)thread;
    return 0;
}

/* Calls chunk(context, 0 .. chunks - 1, thread) once each: on the pool's threads, started if need be, or, where pool is NULL
 * or there is one chunk alone, in this one. */
static inline void ef_pool_each(ef_pool *pool, void (*chunk)(void *, int32_t, int32_t), void *context, int32_t chunks)
{
    if (pool && chunks > 1) {
        ef_pool_start(pool);
        ef_pool_run(pool, (ef_job){chunk, ef_job_over, context}, chunks);
    } else {
        const uint64_t mode = ef_set_float_mode();
        for (int32_t i = 0; i < chunks; i++)
            chunk(context, i, 0);
        ef_restore_float_mode(mode);
    }
}

/* Joins the threads; the next job starts them again. In a forked child there is nothing to join. */
static inline void ef_pool_stop(ef_pool *pool)
{
    if (pool->owner == getpid() && pool->num_threads > 1) {
        atomic_store(&pool->stopping, 1);
        ef_publish(pool, 0);
        for (int32_t i = 0; i < pool->num_threads - 1; i++)
            pthread_join(pool->workers[i].handle, NULL);
        pthread_cond_destroy(&pool->wake);
        pthread_mutex_destroy(&pool->mutex);
    }
    ef_pool_reset(pool);
}

/* Stops the threads and frees the pool. NULL is allowed. */
static inline void ef_pool_destroy(ef_pool *pool)
{
    if (!pool)
        return;
    ef_pool_stop(pool);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->workers);
    free(pool->shares);
    free(pool);
}

#endif
