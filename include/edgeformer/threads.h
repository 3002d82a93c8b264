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
enum { EF_WORKER_STACK_BYTES = 1 << 20 };

/* Work in rounds of chunks. Chunks of a round run in any order, in any thread, each thread getting them in ascending
 * order; all of a round is done, and visible, before the next begins. */
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

/* A ticket says what there is to draw: the count of rounds so far (32 bits), whether no job runs (1), chunks of this
 * round that nobody has drawn (31). Only who draws a chunk looks at the job, so a thread that sleeps or is kept from its
 * core holds nobody up, not even the end of a job. */
#define EF_TICKET_ROUND ((uint64_t)1 << 32)
#define EF_TICKET_IDLE ((uint64_t)1 << 31)
#define EF_TICKET_CHUNKS (EF_TICKET_IDLE - 1)

struct ef_pool {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) atomic_int unfinished; /* chunks of this round */
    _Alignas(64) atomic_int sleepers;   /* threads that wait on `wake` */
    atomic_int stopping;
    int32_t round_chunks;
    ef_job job;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
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

/* Makes this thread flush denormals to zero, inputs too; returns the mode to give to ef_restore_denormals. */
static inline uint64_t ef_flush_denormals(void)
{
#if defined(__SSE2__)
    unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | 0x8040); /* FTZ, DAZ */
    return mode;
#elif defined(__aarch64__)
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" ::"r"(mode | ((uint64_t)1 << 24))); /* FZ */
    return mode;
#else
    return 0;
#endif
}

static inline void ef_restore_denormals(uint64_t mode)
{
#if defined(__SSE2__)
    _mm_setcsr((unsigned)mode);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(mode));
#else
    (void)mode;
#endif
}

/* Returns once the ticket is no longer `ticket`. */
static inline void ef_wait_ticket(ef_pool *pool, uint64_t ticket)
{
    int64_t start = ef_nanoseconds(), waited = 0;
    while (waited < EF_YIELD_NANOSECONDS) {
        for (int i = 0; i < EF_PAUSES_A_LOOK; i++) {
            if (atomic_load_explicit(&pool->ticket, memory_order_relaxed) != ticket)
                return;
            ef_pause();
        }
        if (waited >= EF_SPIN_NANOSECONDS)
            sched_yield();
        waited = ef_nanoseconds() - start;
    }
    /* Sequentially consistent on both sides: either ef_publish sees the sleeper or the sleeper sees the new ticket. */
    atomic_fetch_add(&pool->sleepers, 1);
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(&pool->ticket) == ticket)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
}

/* Issues the ticket of a new round of `chunks` chunks, or of none, idle. */
static inline void ef_publish(ef_pool *pool, int32_t chunks)
{
    uint64_t round = atomic_load_explicit(&pool->ticket, memory_order_relaxed) / EF_TICKET_ROUND + 1;
    if (chunks) {
        pool->round_chunks = chunks;
        atomic_store_explicit(&pool->unfinished, chunks, memory_order_relaxed);
    }
    atomic_store(&pool->ticket, round * EF_TICKET_ROUND + (chunks ? (uint64_t)chunks : EF_TICKET_IDLE));
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* Draws a chunk and runs it, if the ticket offers one; goes on to the next round if it was the last to be finished. */
static inline void ef_work(ef_pool *pool, uint64_t ticket, int32_t thread)
{
    if (!atomic_compare_exchange_weak_explicit(&pool->ticket, &ticket, ticket - 1, memory_order_acquire, memory_order_relaxed))
        return;
    const ef_job job = pool->job;
    job.chunk(job.context, pool->round_chunks - (int32_t)(ticket & EF_TICKET_CHUNKS), thread);
    if (atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_acq_rel) == 1)
        ef_publish(pool, job.next(job.context, thread));
}

static inline void *ef_worker_main(void *argument)
{
    const ef_worker *worker = argument;
    ef_pool *pool = worker->pool;
    ef_flush_denormals();
    while (!atomic_load_explicit(&pool->stopping, memory_order_acquire)) {
        uint64_t ticket = atomic_load_explicit(&pool->ticket, memory_order_relaxed);
        if (ticket & EF_TICKET_CHUNKS)
            ef_work(pool, ticket, worker->thread);
        else
            ef_wait_ticket(pool, ticket);
    }
    return NULL;
}

/* Puts a pool into the state of having no threads, whatever state another process left it in. */
static inline void ef_pool_reset(ef_pool *pool)
{
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_store(&pool->ticket, EF_TICKET_IDLE);
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->stopping, 0);
    pool->num_threads = 0;
    pool->owner = getpid();
}

/* A pool of at most `max_threads` threads, 1 .. EF_MAX_THREADS, none started; NULL where memory is short. */
static inline ef_pool *ef_pool_create(int32_t max_threads)
{
    void *memory = NULL;
    if (posix_memalign(&memory, 64, sizeof(ef_pool)))
        return NULL;
    ef_pool *pool = memory;
    pool->workers = calloc((size_t)max_threads, sizeof(ef_worker));
    if (!pool->workers) {
        free(pool);
        return NULL;
    }
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
    uint64_t mode = ef_flush_denormals();
    if (pool->num_threads == 1) {
        for (; chunks; chunks = job.next(job.context, 0))
            for (int32_t chunk = 0; chunk < chunks; chunk++)
                job.chunk(job.context, chunk, 0);
    } else if (chunks) {
        pool->job = job;
        ef_publish(pool, chunks);
        uint64_t ticket;
        while (!((ticket = atomic_load_explicit(&pool->ticket, memory_order_acquire)) & EF_TICKET_IDLE)) {
            if (ticket & EF_TICKET_CHUNKS)
                ef_work(pool, ticket, 0);
            else
                ef_wait_ticket(pool, ticket);
        }
    }
    ef_restore_denormals(mode);
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
    free(pool);
}

#endif
