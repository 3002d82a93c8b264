/* The loop that runs a plan on a pool of threads.
 *
 * Every op is cut into chunks: ranges of rows, for LINEAR ranges of rows x panels, for ATTENTION (segment, key-value head,
 * rows). An op worth it is a round of the pool's job; the thread that finishes its last chunk runs the small ops that follow
 * alone and sets up the next round. No result depends on the cut.
 */
#ifndef EDGEFORMER_PLAN_RUN_H
#define EDGEFORMER_PLAN_RUN_H

#include "plan_cut.h"
#include "plan_ops.h"
#include "threads.h"

enum ef_run_status { EF_RUN_DONE = 0, EF_RUN_CANCELLED = 1, EF_RUN_POLLED = 2 };

enum {
    EF_POLL_NANOSECONDS = 10000000, /* between two calls of `poll` */
    EF_ALONE_NANOSECONDS = 4000,    /* ops estimated below this are not worth a round */
    EF_CHUNK_NANOSECONDS = 2000,    /* and no chunk should be shorter than this, that drawing it stays cheap */
    EF_CHUNKS_A_THREAD = 16        /* so that a thread that is late or slow holds the others up little */
};

/* What one run shares between its threads. Written between rounds by one thread, except for the atomics. */
typedef struct ef_run {
    const ef_plan *plan;
    const ef_batch *batch;
    int32_t num_threads;
    atomic_int *cancel;
    int (*poll)(void *);
    void *poll_context;
    uint8_t *scratch;
    int64_t scratch_bytes; /* of one thread */
    int64_t last_poll;
    int32_t op;            /* that all threads work at */
    ef_cut cut;            /* of that op */
    atomic_int status;     /* ef_run_status; anything but EF_RUN_DONE empties the chunks that are left */
} ef_run;

/* Looks, in the calling thread only, whether to go on, and sets the status otherwise. */
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
    if (status != EF_RUN_DONE)
        atomic_store(&run->status, status);
}

static inline int ef_run_stopped(ef_run *run)
{
    return atomic_load_explicit(&run->status, memory_order_relaxed) != EF_RUN_DONE;
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

/* Runs one chunk of op `index`. */
static inline void ef_run_op_chunk(ef_run *run, int32_t index, const ef_cut *cut, int32_t chunk, int32_t thread)
{
    ef_worker_state *state = (ef_worker_state *)(void *)(run->scratch + thread * run->scratch_bytes);
    if (ef_run_stopped(run))
        return;
    if (state->op != index)
        *state = (ef_worker_state){.op = index};
    ef_op_chunk(run->plan, run->batch, &run->plan->ops[index], cut, chunk, state);
    if (thread == 0)
        ef_run_check(run);
}

/* A chunk of the op that is this round of the pool's job. */
static inline void ef_run_chunk(void *context, int32_t chunk, int32_t thread)
{
    ef_run *run = context;
    ef_run_op_chunk(run, run->op, &run->cut, chunk, thread);
}

/* Runs the small ops from `first` on alone, until one is worth all threads; returns its chunks, 0 at the end. */
static inline int32_t ef_run_alone(ef_run *run, int32_t first, int32_t thread)
{
    const ef_plan *plan = run->plan;
    for (int32_t i = first; i < plan->num_ops && !ef_run_stopped(run); i++) {
        double nanoseconds = ef_op_nanoseconds(plan, run->batch, &plan->ops[i]);
        if (run->num_threads > 1 && nanoseconds > EF_ALONE_NANOSECONDS) {
            run->op = i;
            run->cut = ef_run_cut(run, &plan->ops[i], nanoseconds, run->num_threads);
            return run->cut.num_chunks;
        }
        /* One chunk if it is small, else enough of them to look up in time when asked to stop. */
        ef_cut cut = ef_op_cut(plan, run->batch, &plan->ops[i], 1 + (int32_t)(nanoseconds / EF_POLL_NANOSECONDS));
        for (int32_t chunk = 0; chunk < cut.num_chunks; chunk++)
            ef_run_op_chunk(run, i, &cut, chunk, thread);
    }
    return 0;
}

/* What follows a round. */
static inline int32_t ef_run_next(void *context, int32_t thread)
{
    ef_run *run = context;
    return ef_run_alone(run, run->op + 1, thread);
}

/* Bytes of scratch that each thread needs to run this plan. */
static inline int64_t ef_plan_scratch_bytes(const ef_plan *plan)
{
    int64_t most = 0;
    for (int32_t i = 0; i < plan->num_ops; i++) {
        int64_t bytes = ef_op_scratch_bytes(plan, &plan->ops[i]);
        most = bytes > most ? bytes : most;
    }
    return EF_ALIGNMENT + (most + EF_ALIGNMENT - 1) / EF_ALIGNMENT * EF_ALIGNMENT; /* ef_worker_state before the rest */
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
    ef_pool_start(pool);
    ef_run run = {
        .plan = plan, .batch = batch, .num_threads = pool->num_threads, .cancel = cancel, .poll = poll,
        .poll_context = poll_context, .scratch = scratch, .scratch_bytes = ef_plan_scratch_bytes(plan),
        .last_poll = ef_nanoseconds(),
    };
    for (int32_t thread = 0; thread < run.num_threads; thread++)
        ((ef_worker_state *)(void *)(scratch + thread * run.scratch_bytes))->op = -1;
    if (plan->parts) /* a run that was ended within attention has left them counted */
        memset(plan->parts->finished, 0, sizeof plan->parts->finished);
    uint64_t mode = ef_flush_denormals();
    ef_run_check(&run);
    int32_t chunks = ef_run_alone(&run, 0, 0);
    if (chunks)
        ef_pool_run(pool, (ef_job){ef_run_chunk, ef_run_next, &run}, chunks);
    ef_restore_denormals(mode);
    return atomic_load(&run.status);
}

#endif
