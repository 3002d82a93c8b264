/* The loop that runs a plan on a pool of threads.
 *
 * Every op is cut into chunks: ranges of rows, for LINEAR ranges of rows x panels, for ATTENTION (segment, key-value head,
 * rows). Ops worth it are run by all threads, which draw chunks from a counter; the thread that comes last to the barrier
 * behind such an op runs the small ops that follow alone, then opens the barrier. No result depends on the cut.
 */
#ifndef EDGEFORMER_PLAN_RUN_H
#define EDGEFORMER_PLAN_RUN_H

#include "plan_cut.h"
#include "plan_ops.h"
#include "threads.h"

enum ef_run_status { EF_RUN_DONE = 0, EF_RUN_CANCELLED = 1, EF_RUN_POLLED = 2 };

enum {
    EF_POLL_NANOSECONDS = 10000000, /* between two calls of `poll` */
    EF_ALONE_NANOSECONDS = 4000,    /* ops estimated below this are not worth a barrier */
    EF_CHUNK_NANOSECONDS = 2000,    /* and no chunk should be shorter than this, that the counter stays cheap */
    EF_CHUNKS_A_THREAD = 8          /* so that a thread that is late or slow holds the others up little */
};

/* What one run shares between its threads. Written between barriers by one thread, except for the atomics. */
typedef struct ef_run {
    const ef_plan *plan;
    const ef_batch *batch;
    ef_pool *pool;
    atomic_int *cancel;
    int (*poll)(void *);
    void *poll_context;
    uint8_t *scratch;
    int64_t scratch_bytes; /* of one thread */
    int64_t last_poll;
    int32_t op;            /* that all threads work at; plan->num_ops at the end */
    ef_cut cut;            /* of that op */
    _Alignas(64) atomic_int next_chunk;
    _Alignas(64) atomic_int status;
} ef_run;

/* Looks, in the calling thread only, whether to go on; otherwise sets the status and leaves no chunks to draw. */
static inline void ef_run_check(ef_run *run)
{
    int status = EF_RUN_DONE;
    if (run->cancel && atomic_load_explicit(run->cancel, memory_order_relaxed)) {
        status = EF_RUN_CANCELLED;
    } else if (run->poll) {
        int64_t now = ef_nanoseconds();
        if (now - run->last_poll >= EF_POLL_NANOSECONDS) {
            if (run->poll(run->poll_context))
                status = EF_RUN_POLLED;
            run->last_poll = ef_nanoseconds();
        }
    }
    if (status != EF_RUN_DONE) {
        atomic_store(&run->status, status);
        atomic_store(&run->next_chunk, INT32_MAX / 2);
    }
}

/* Cuts the op into chunks for this many threads. */
static inline ef_cut ef_run_cut(const ef_run *run, const ef_op *op, double nanoseconds, int32_t num_threads)
{
    double most = nanoseconds / EF_CHUNK_NANOSECONDS;
    int32_t wanted = num_threads * EF_CHUNKS_A_THREAD;
    if (most < wanted)
        wanted = most < num_threads ? num_threads : (int32_t)most;
    return ef_op_cut(run->plan, run->batch, op, wanted);
}

/* Runs chunks of the present op until none are left. */
static inline void ef_run_chunks(ef_run *run, int32_t thread)
{
    const ef_op *op = &run->plan->ops[run->op];
    ef_worker_state state = {.scratch = run->scratch + thread * run->scratch_bytes};
    for (;;) {
        int32_t chunk = atomic_fetch_add_explicit(&run->next_chunk, 1, memory_order_relaxed);
        if (chunk >= run->cut.num_chunks)
            return;
        ef_op_chunk(run->plan, run->batch, op, &run->cut, chunk, &state);
        if (thread == 0)
            ef_run_check(run);
    }
}

/* Runs the small ops at and after `first` alone, until one is worth all threads: sets it up, or finds the end. */
static inline void ef_run_alone(ef_run *run, int32_t first, int32_t thread, int32_t num_threads)
{
    const ef_plan *plan = run->plan;
    for (int32_t i = first; i < plan->num_ops; i++) {
        const ef_op *op = &plan->ops[i];
        if (atomic_load_explicit(&run->status, memory_order_relaxed) != EF_RUN_DONE)
            break;
        double nanoseconds = ef_op_nanoseconds(plan, run->batch, op);
        if (num_threads > 1 && nanoseconds > EF_ALONE_NANOSECONDS) {
            run->op = i;
            run->cut = ef_run_cut(run, op, nanoseconds, num_threads);
            atomic_store_explicit(&run->next_chunk, 0, memory_order_relaxed);
            return;
        }
        /* One chunk if it is small, else enough of them to look up in time when asked to stop. */
        ef_cut cut = ef_op_cut(plan, run->batch, op, 1 + (int32_t)(nanoseconds / EF_POLL_NANOSECONDS));
        ef_worker_state state = {.scratch = run->scratch + thread * run->scratch_bytes};
        for (int32_t chunk = 0; chunk < cut.num_chunks; chunk++) {
            ef_op_chunk(plan, run->batch, op, &cut, chunk, &state);
            if (thread == 0)
                ef_run_check(run);
            if (atomic_load_explicit(&run->status, memory_order_relaxed) != EF_RUN_DONE)
                break;
        }
    }
    run->op = plan->num_ops;
}

/* What every thread of the pool does. */
static inline void ef_run_thread(void *context, int32_t thread, int32_t num_threads)
{
    ef_run *run = context;
    while (run->op < run->plan->num_ops) {
        ef_run_chunks(run, thread);
        if (ef_barrier_last(run->pool, num_threads)) {
            ef_run_alone(run, run->op + 1, thread, num_threads);
            ef_barrier_open(run->pool);
        }
    }
}

/* Bytes of scratch that each thread needs to run this plan. */
static inline int64_t ef_plan_scratch_bytes(const ef_plan *plan)
{
    int64_t most = 0;
    for (int32_t i = 0; i < plan->num_ops; i++) {
        int64_t bytes = ef_op_scratch_bytes(plan, &plan->ops[i]);
        most = bytes > most ? bytes : most;
    }
    return (most + EF_ALIGNMENT - 1) / EF_ALIGNMENT * EF_ALIGNMENT;
}

/* Runs all ops over the batch and returns an ef_run_status. Anything but EF_RUN_DONE leaves unspecified values in the
 * arena and in the cache positions of this batch, and everything ready for the next run.
 * scratch: ef_plan_scratch_bytes for each of the pool's threads, 64-byte aligned.
 * cancel: NULL, or a flag that ends the run once it is not 0.
 * poll: NULL, or called from the calling thread at most every EF_POLL_NANOSECONDS; anything but 0 ends the run.
 * The plan and the batch must be consistent; nothing is checked here. */
static inline int ef_plan_run(const ef_plan *plan, const ef_batch *batch, ef_pool *pool, uint8_t *scratch, atomic_int *cancel,
                              int (*poll)(void *), void *poll_context)
{
    ef_run run = {
        .plan = plan, .batch = batch, .pool = pool, .cancel = cancel, .poll = poll, .poll_context = poll_context,
        .scratch = scratch, .scratch_bytes = ef_plan_scratch_bytes(plan), .last_poll = ef_nanoseconds(),
    };
    ef_pool_start(pool);
    uint64_t mode = ef_flush_denormals();
    ef_run_check(&run);
    ef_run_alone(&run, 0, 0, pool->num_threads);
    if (run.op < plan->num_ops)
        ef_pool_run(pool, ef_run_thread, &run);
    ef_restore_denormals(mode);
    return atomic_load(&run.status);
}

#endif
