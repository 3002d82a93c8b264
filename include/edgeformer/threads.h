/* A small pool of POSIX threads for work that is cut many times a millisecond.
 *
 * The caller is thread 0. Waiting threads spin for some tens of microseconds, then yield, then sleep: between the ops of a
 * run they are ready within a cache miss, an idle pool costs nothing. Threads start at the first job, and again in a
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

typedef void (*ef_task)(void *context, int32_t thread, int32_t num_threads);

typedef struct ef_pool ef_pool;

typedef struct ef_worker {
    ef_pool *pool;
    pthread_t handle;
    int32_t thread;      /* 1 .. num_threads - 1 */
    unsigned generation; /* of jobs, when the thread was made */
} ef_worker;

struct ef_pool {
    _Alignas(64) atomic_uint generation; /* counts jobs; a change starts the workers */
    _Alignas(64) atomic_uint arrived;    /* threads waiting at the barrier */
    _Alignas(64) atomic_uint phase;      /* counts barriers; a change opens the present one */
    _Alignas(64) atomic_uint sleepers;   /* threads that wait on `wake` */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    ef_task task;
    void *context;
    ef_worker *workers;  /* [max_threads - 1] */
    int32_t max_threads; /* asked for, the caller included */
    int32_t num_threads; /* running, the caller included; 0 before the first job */
    int stopping;
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

/* Returns once *word is no longer `value`; what was written before the change is visible then. */
static inline void ef_wait_while(ef_pool *pool, atomic_uint *word, unsigned value)
{
    if (atomic_load_explicit(word, memory_order_acquire) != value)
        return;
    int64_t start = ef_nanoseconds(), waited = 0;
    while (waited < EF_YIELD_NANOSECONDS) {
        for (int i = 0; i < EF_PAUSES_A_LOOK; i++) {
            if (atomic_load_explicit(word, memory_order_acquire) != value)
                return;
            ef_pause();
        }
        if (waited >= EF_SPIN_NANOSECONDS)
            sched_yield();
        waited = ef_nanoseconds() - start;
    }
    /* Sequentially consistent on both sides: either ef_publish sees the sleeper or the sleeper sees the new value. */
    atomic_fetch_add(&pool->sleepers, 1);
    pthread_mutex_lock(&pool->mutex);
    while (atomic_load(word) == value)
        pthread_cond_wait(&pool->wake, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
}

/* Changes *word for those that wait for it, asleep or not. Only one thread at a time publishes. */
static inline void ef_publish(ef_pool *pool, atomic_uint *word, unsigned value)
{
    atomic_store(word, value);
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* A barrier with a serial part: returns 1 at once in the thread that comes last, which does what must be done alone and
 * then calls ef_barrier_open; returns 0 in the others, after that. */
static inline int ef_barrier_last(ef_pool *pool, int32_t num_threads)
{
    unsigned phase = atomic_load_explicit(&pool->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) + 1 == (unsigned)num_threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        return 1;
    }
    ef_wait_while(pool, &pool->phase, phase);
    return 0;
}

static inline void ef_barrier_open(ef_pool *pool)
{
    ef_publish(pool, &pool->phase, atomic_load_explicit(&pool->phase, memory_order_relaxed) + 1);
}

static inline void ef_barrier(ef_pool *pool, int32_t num_threads)
{
    if (ef_barrier_last(pool, num_threads))
        ef_barrier_open(pool);
}

static inline void *ef_worker_main(void *argument)
{
    ef_worker *worker = argument;
    ef_pool *pool = worker->pool;
    unsigned generation = worker->generation;
    ef_flush_denormals();
    for (;;) {
        ef_wait_while(pool, &pool->generation, generation);
        generation++;
        if (pool->stopping)
            return NULL;
        pool->task(pool->context, worker->thread, pool->num_threads);
        ef_barrier(pool, pool->num_threads);
    }
}

/* Puts a pool into the state of having no threads, whatever state another process left it in. */
static inline void ef_pool_reset(ef_pool *pool)
{
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_store(&pool->generation, 0);
    atomic_store(&pool->arrived, 0);
    atomic_store(&pool->phase, 0);
    atomic_store(&pool->sleepers, 0);
    pool->num_threads = 0;
    pool->stopping = 0;
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
        worker->generation = atomic_load(&pool->generation);
        if (pthread_create(&worker->handle, &attributes, ef_worker_main, worker))
            break;
        started++;
    }
    pool->num_threads = started; /* workers read it after the first job is published */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Runs task(context, thread, num_threads) in every thread and returns when all are done. */
static inline void ef_pool_run(ef_pool *pool, ef_task task, void *context)
{
    ef_pool_start(pool);
    uint64_t mode = ef_flush_denormals();
    if (pool->num_threads == 1) {
        task(context, 0, 1);
    } else {
        pool->task = task;
        pool->context = context;
        ef_publish(pool, &pool->generation, atomic_load(&pool->generation) + 1);
        task(context, 0, pool->num_threads);
        ef_barrier(pool, pool->num_threads);
    }
    ef_restore_denormals(mode);
}

/* Joins the threads; the next job starts them again. In a forked child there is nothing to join. */
static inline void ef_pool_stop(ef_pool *pool)
{
    if (pool->owner == getpid() && pool->num_threads > 1) {
        pool->stopping = 1;
        ef_publish(pool, &pool->generation, atomic_load(&pool->generation) + 1);
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
