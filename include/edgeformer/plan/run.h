/* The loop that runs a plan on a pool of threads.
 *
 * Every op is cut into chunks: ranges of rows, for LINEAR ranges of rows x panels, for ATTENTION (segment, key-value
 * head, rows). Ops that go row by row and follow each other are one chain: each range of rows passes through all of
 * them. A chain worth it is a round of the pool's job; the thread that finishes its last chunk runs the small ops that
 * follow alone and sets up the next round. No result depends on the cut.
 */
#ifndef EDGEFORMER_PLAN_RUN_H
#define EDGEFORMER_PLAN_RUN_H

#include "edgeformer/plan/cut.h"
#include "edgeformer/plan/ops.h"
#include "edgeformer/host/threads.h"

enum ef_run_status { EF_RUN_DONE = 0, EF_RUN_CANCELLED = 1, EF_RUN_POLLED = 2 };

enum {
    EF_POLL_NANOSECONDS = 10000000, /* between two calls of `poll` */
    EF_ALONE_NANOSECONDS = 4000,    /* ops estimated below this are not worth a round */
    EF_CHUNK_NANOSECONDS = 2000,    /* and no chunk should be shorter than this, that drawing it stays cheap */
    EF_HINT_BYTES = 256 * 1024,     /* of weights that a thread fetches ahead while it waits: they stay in its cache */
    EF_CHUNKS_A_THREAD = 16,        /* so that a thread that is late or slow holds the others up little */
    EF_MOST_CHUNKS = 1 << 20,       /* of a round */
};

/* A chain of ops, [op, end), and its chunks; op = num_ops: none. */
typedef struct ef_round {
    int32_t op, end;
    ef_cut cut;
} ef_round;

/* A flag that ends runs, and the flag that it listens to besides: a stream's own, and its caller's. */
typedef struct ef_cancel {
    atomic_int value;
    struct ef_cancel *parent; /* or NULL; it lives as long as this one */
} ef_cancel;

/* Whether `cancel` or a flag above it is set; `cancel` may be NULL. From any thread. */
static inline int ef_cancel_is_set(ef_cancel *cancel)
{
    for (; cancel; cancel = cancel->parent) {
        if (atomic_load_explicit(&cancel->value, memory_order_relaxed))
            return 1;
    }
    return 0;
}

/* What one run shares between its threads. Written between rounds by one thread, except for the atomics. */
typedef struct ef_run {
    const ef_plan *plan;
    const ef_batch *batch;
    ef_pool *pool;
    ef_cancel *cancel;
    int (*poll)(void *);
    void *poll_context;
    uint8_t *scratch;
    int64_t scratch_bytes; /* of one thread */
    int64_t last_poll;
    uint64_t host_mode;    /* of floats in the calling thread, which `poll` wants back */
    ef_round round, next;  /* what all threads work at, and what they will work at after it */
    atomic_int status;     /* ef_run_status; anything but EF_RUN_DONE empties the chunks that are left */
} ef_run;

/* Looks, in the calling thread only, whether to go on, and sets the status otherwise. */
static inline void ef_run_check(ef_run *run)
{
    int status = EF_RUN_DONE;
    if (ef_cancel_is_set(run->cancel)) {
        status = EF_RUN_CANCELLED;
    } else if (run->poll) {
        int64_t now = ef_nanoseconds();
        if (now - run->last_poll >= EF_POLL_NANOSECONDS) {
            ef_restore_float_mode(run->host_mode);
            if (run->poll(run->poll_context))
                status = EF_RUN_POLLED;
            ef_set_float_mode();
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

/* Runs one chunk of a round. */
static inline void ef_run_round_chunk(ef_run *run, const ef_round *round, int32_t chunk, int32_t thread)
{
    ef_worker_state *state = (ef_worker_state *)(void *)(run->scratch + thread * run->scratch_bytes);
    if (ef_run_stopped(run))
        return;
    if (state->op != round->op)
        *state = (ef_worker_state){.op = round->op};
    for (int32_t i = round->op; i < round->end; i++)
        ef_op_chunk(run->plan, run->batch, &run->plan->ops[i], &round->cut, chunk, state);
    if (thread == 0)
        ef_run_check(run);
}

/* A chunk of this round of the pool's job. */
static inline void ef_run_chunk(void *context, int32_t chunk, int32_t thread)
{
    ef_run *run = context;
    ef_run_round_chunk(run, &run->round, chunk, thread);
}

/* Sets the ops of a round to the chain from `first` on; returns what it is likely to cost. */
static inline double ef_run_chain(const ef_run *run, ef_round *round, int32_t first)
{
    double nanoseconds = 0;
    round->op = first;
    round->end = ef_chain_end(run->plan, first);
    for (int32_t i = first; i < round->end; i++)
        nanoseconds += ef_op_nanoseconds(run->plan, run->batch, &run->plan->ops[i]);
    return nanoseconds;
}

/* How many chunks a chain needs so that between any two of them comes the time to look whether to stop. */
static inline int32_t ef_run_polls(double nanoseconds)
{
    const double polls = 1 + nanoseconds / EF_POLL_NANOSECONDS;
    return polls < EF_MOST_CHUNKS ? (int32_t)polls : EF_MOST_CHUNKS;
}

/* The first chain from op `first` on that is worth all threads. */
static inline ef_round ef_run_find(const ef_run *run, int32_t first)
{
    const int32_t num_threads = run->pool->num_threads, num_ops = run->plan->num_ops;
    ef_round round = {.end = first};
    while (num_threads > 1 && round.end < num_ops) {
        double nanoseconds = ef_run_chain(run, &round, round.end), most = nanoseconds / EF_CHUNK_NANOSECONDS;
        if (nanoseconds <= EF_ALONE_NANOSECONDS)
            continue;
        int32_t wanted = num_threads * EF_CHUNKS_A_THREAD;
        if (most < wanted)
            wanted = most < num_threads ? num_threads : (int32_t)most;
        if (wanted < ef_run_polls(nanoseconds))
            wanted = ef_run_polls(nanoseconds);
        round.cut = ef_chain_cut(run->plan, run->batch, round.op, round.end, wanted);
        if (round.cut.num_chunks > 1)
            return round;
    }
    return (ef_round){num_ops, num_ops, {0}};
}

/* Tells every thread which weights it will read in that round. */
static inline void ef_run_hint(const ef_run *run, const ef_round *round)
{
    const int32_t num_threads = run->pool->num_threads;
    const ef_op *op = &run->plan->ops[round->op];
    if (round->op == run->plan->num_ops || op->kind != EF_OP_LINEAR)
        return;
    const ef_matrix *weight = &run->plan->matrices[op->weight];
    const ef_cut *cut = &round->cut;
    for (int32_t thread = 0; thread < num_threads; thread++) {
        const int32_t begin = ef_share_begin(cut->num_chunks, num_threads, thread);
        const int32_t chunks = ef_share_begin(cut->num_chunks, num_threads, thread + 1) - begin;
        const int32_t first = begin % cut->panel_chunks * cut->panels_a_chunk;
        const int64_t bytes = chunks * cut->panels_a_chunk * ef_linear_panel_bytes(run->plan, op);
        ef_pool_hint(run->pool, thread, weight->data + first * weight->panel_bytes,
                     bytes < EF_HINT_BYTES ? (int32_t)bytes : EF_HINT_BYTES);
    }
}

/* Runs the small ops before the next round alone and makes that round the present one; returns its chunks, 0 at the
 * end. The hint at the last round is for the next run, which is likely to be of the same plan. */
static inline int32_t ef_run_next(void *context, int32_t thread)
{
    ef_run *run = context;
    const ef_plan *plan = run->plan;
    for (ef_round round = {.end = run->round.end}; round.end < run->next.op;) {
        if (ef_run_stopped(run))
            return 0;
        /* One chunk if it is small, else enough of them to look up in time when asked to stop. */
        double nanoseconds = ef_run_chain(run, &round, round.end);
        round.cut = ef_chain_cut(plan, run->batch, round.op, round.end, ef_run_polls(nanoseconds));
        for (int32_t chunk = 0; chunk < round.cut.num_chunks; chunk++)
            ef_run_round_chunk(run, &round, chunk, thread);
    }
    run->round = run->next;
    if (run->round.op == plan->num_ops || ef_run_stopped(run))
        return 0;
    run->next = ef_run_find(run, run->round.end);
    const ef_round first = run->next.op == plan->num_ops ? ef_run_find(run, 0) : run->next;
    ef_run_hint(run, &first);
    return run->round.cut.num_chunks;
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
 * cancel: NULL, or a flag that ends the run once it or one above it is set.
 * poll: NULL, or called from the calling thread at most every EF_POLL_NANOSECONDS; anything but 0 ends the run.
 * The plan and the batch must be consistent; nothing is checked here. */
static inline int ef_plan_run(const ef_plan *plan, const ef_batch *batch, ef_pool *pool, uint8_t *scratch,
                              ef_cancel *cancel, int (*poll)(void *), void *poll_context)
{
    ef_pool_start(pool);
    ef_run run = {
        .plan = plan, .batch = batch, .pool = pool, .cancel = cancel, .poll = poll,
        .poll_context = poll_context, .scratch = scratch, .scratch_bytes = ef_plan_scratch_bytes(plan),
        .last_poll = ef_nanoseconds(), .round = {.end = 0},
    };
    for (int32_t thread = 0; thread < pool->num_threads; thread++)
        ((ef_worker_state *)(void *)(scratch + thread * run.scratch_bytes))->op = -1;
    if (plan->parts) /* a run that was ended within attention has left them counted */
        memset(plan->parts->finished, 0, sizeof plan->parts->finished);
    run.host_mode = ef_set_float_mode();
    ef_run_check(&run);
    run.next = ef_run_find(&run, 0);
    int32_t chunks = ef_run_next(&run, 0);
    if (chunks)
        ef_pool_run(pool, (ef_job){ef_run_chunk, ef_run_next, &run}, chunks);
    ef_restore_float_mode(run.host_mode);
    return atomic_load(&run.status);
}

#endif
