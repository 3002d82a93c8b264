# What include/edgeformer offers, declared for Cython. Nothing here has code of its own.
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint64_t

cdef extern from "<unistd.h>" nogil:
    int getpid()
    int pause()
    int close(int descriptor)
    Py_ssize_t pread(int descriptor, void *target, size_t bytes, int64_t offset)

cdef extern from "Python.h":
    int Py_AddPendingCall(int (*call)(void *) except -1, void *argument)

cdef extern from "pythread.h":
    ctypedef void *PyThread_type_lock
    ctypedef enum PyLockStatus:
        PY_LOCK_ACQUIRED
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    int PyThread_acquire_lock(PyThread_type_lock, int wait)
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int interruptible) nogil
    void PyThread_release_lock(PyThread_type_lock)
    unsigned long PyThread_get_thread_ident()

cdef extern from "edgeformer/types/blocks.h" nogil:
    enum:
        EF_TILE
        EF_BLOCK
        EF_ALIGNMENT
        EF_F32
        EF_F16
        EF_Q4_0
        EF_Q8_0
        EF_BF16
        EF_I8_ROW
        EF_ROW_COLUMNS
    ctypedef struct ef_block_activation:
        float scale
        float scaled_sum
        int16_t sum
        int16_t low_sum
        int8_t q[32]
    ctypedef struct ef_matrix:
        const uint8_t *data
        int64_t panel_bytes
        int32_t type
        int32_t num_rows
        int32_t num_columns
    ctypedef struct ef_type_traits:
        const char *name
        int32_t id
        int32_t block_columns
        int32_t block_bytes
    const int32_t ef_type_ids[]
    ef_type_traits ef_traits(int32_t type)
    bint ef_type_is_quantized(int32_t type)
    int64_t ef_panel_bytes(int32_t type, int64_t num_columns)
    int64_t ef_row_bytes(int32_t type, int64_t num_columns)

cdef extern from "edgeformer/kernels/kernels.h" nogil:
    enum:
        EF_ACT_COUNT
        EF_PAIR_COUNT
        EF_PAIR_HALVES
        EF_POOL_COUNT
        EF_POOL_MEAN
        EF_KERNEL_COUNT
        EF_ROW_FUNCTION_COUNT
        EF_PAGE
        EF_WEIGHT_CHUNK
    const char *const ef_activation_names[]
    const char *const ef_pairing_names[]
    const char *const ef_pooling_names[]
    const char *const ef_kernel_names[]
    const char *const ef_row_function_names[]
    ctypedef struct ef_matmul:
        ef_matrix weight
        const void *input
        int64_t input_stride
        float *output
        int64_t output_stride
        const float *bias
        const float *residual
        int64_t residual_stride
        int32_t activation
        uint8_t *scratch
    ctypedef struct ef_cache:
        uint8_t *pages
        int64_t page_bytes
        int32_t type
        int32_t num_layers
        int32_t num_heads
        int32_t key_dim
        int32_t value_dim
    ctypedef struct ef_segment:
        int32_t first_row
        int32_t num_rows
        int32_t position
        int32_t kv_length
        int32_t first_page
        int32_t prefix
    ctypedef struct ef_bias:
        const float *table
        int64_t head_stride
    ef_bias ef_bias_by_distance(const float *table, int32_t behind, int32_t ahead)
    ef_bias ef_bias_dense(const float *table, int32_t num_rows, int32_t num_columns)
    ctypedef struct ef_relative:
        const float *scores
        int64_t stride
        const float *buckets
        int32_t num_buckets
        int32_t behind
        int32_t ahead
    ctypedef struct ef_attention:
        const float *query
        int64_t query_stride
        float *output
        int64_t output_stride
        const ef_cache *cache
        const int32_t *page_table
        int32_t layer
        int32_t num_heads
        int32_t causal
        int32_t prefix
        int32_t window
        float scale
        float soft_cap
        const ef_bias *bias
        const float *sinks
        const ef_relative *relative
    ctypedef void (*ef_row_function)(float *output, const float *input, const float *weight, const float *bias,
                                     int64_t n, float number) noexcept nogil
    ctypedef void (*ef_of_two)(float *output, const float *a, const float *b, int64_t n) noexcept nogil
    ctypedef struct ef_kernels:
        const char *isa
        void (*pack)(uint8_t *panels, int32_t type, int64_t num_columns, const uint8_t *source, int64_t row_begin,
                     int64_t row_end) noexcept nogil
        void (*matmul)(const ef_matmul *args, int32_t row_begin, int32_t row_end, int32_t panel_begin,
                       int32_t panel_end) noexcept nogil
        void (*embed)(float *output, const ef_matrix *weight, int32_t row, float scale, const float *add) noexcept nogil
        void (*quantize)(ef_block_activation *output, const float *input, int64_t n) noexcept nogil
        void (*quantize_row)(ef_block_activation *output, const float *input, int64_t n) noexcept nogil
        void (*activate)(float *output, const float *input, int64_t n, int32_t activation) noexcept nogil
        void (*gate)(float *output, const float *gate, const float *up, int64_t n, int32_t activation) noexcept nogil
        void (*gate_limited)(float *output, const float *gate, const float *up, int64_t n, int32_t activation, float limit,
                             float offset) noexcept nogil
        ef_of_two add
        ef_of_two maximum
        int32_t (*panels_finite)(const ef_matrix *matrix, int32_t panel_begin, int32_t panel_end) noexcept nogil
        void (*rotary)(float *cos_sin, int32_t position, const float *frequency, int64_t half, float scale) noexcept nogil
        void (*rope)(float *row, const float *cos_sin, int32_t num_heads, int32_t head_dim, int32_t half,
                     int32_t pairing) noexcept nogil
        float (*log_sum_exp)(float *largest, const float *input, int64_t n) noexcept nogil
        int32_t (*is_finite)(const float *input, int64_t n) noexcept nogil
        void (*top)(int32_t *indices, int32_t count, const float *values, int32_t n,
                    uint64_t *heap) noexcept nogil
        void (*weigh)(float *weights, double *sums, const float *input, int64_t n, float largest, float temperature,
                      float least) noexcept nogil
        void (*store_kv)(const ef_cache *cache, int32_t page, int32_t layer, int32_t slot, int32_t count, const float *key,
                         int64_t key_stride, const float *value, int64_t value_stride) noexcept nogil
        void (*attention)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t row_begin,
                          int32_t row_end, float *scratch) noexcept nogil
        void (*attention_split)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t span_begin,
                                int32_t span_end, float *parts, float *scratch) noexcept nogil
        void (*attention_join)(const ef_attention *args, const ef_segment *segment, int32_t kv_head, int32_t num_spans,
                               const float *parts, float *scratch) noexcept nogil
        void (*pool)(float *output, const float *input, int64_t input_stride, int32_t num_rows, int64_t n,
                     int32_t kind) noexcept nogil
        int64_t (*count_int8)(int64_t rounds) noexcept nogil
        int64_t (*count_int4)(int64_t rounds) noexcept nogil
        int64_t (*count_float)(int64_t rounds) noexcept nogil
        uint64_t (*checksum)(const uint8_t *data, int64_t bytes) noexcept nogil
    ef_row_function ef_row_function_of(const ef_kernels *kernels, int32_t index)
    int64_t ef_pad16(int64_t n)
    int64_t ef_cache_layer_bytes(const ef_cache *cache)

cdef extern from "edgeformer/plan/plan.h" nogil:
    enum:
        EF_MAX_CACHES
        EF_MAX_DOMAINS
        EF_MAX_INPUTS
        EF_MAX_ROWS
        EF_OP_SLOTS
        EF_OP_COUNT
    ctypedef struct ef_operand:
        int32_t buffer
        int32_t column
    ctypedef struct ef_buffer:
        int64_t offset
        int64_t stride
    ctypedef struct ef_op:
        int32_t kind
        int32_t domain
        ef_operand input[2]
        ef_operand output
        ef_operand quantized
        int32_t row_scale
        int32_t weight
        int32_t vector[2]
        int32_t width
        ef_row_function function
        int32_t slot[16]
    ctypedef struct ef_op_traits:
        const char *name
        const char *fields
        int row_wise
    const ef_op_traits ef_op_list[]
    ctypedef struct ef_parts:
        pass
    ctypedef struct ef_plan:
        const ef_op *ops
        const ef_buffer *buffers
        const ef_matrix *matrices
        const float *const *vectors
        ef_cache caches[EF_MAX_CACHES]
        uint8_t *arena
        ef_parts *parts
        const ef_kernels *kernels
        int32_t num_ops
    ctypedef struct ef_rows:
        int32_t num_rows
        int32_t num_segments
        const int32_t *starts
        const int32_t *widths
    ctypedef struct ef_batch:
        const ef_rows *domains
        const int32_t *const *indices
        const float *const *features
        const ef_segment *const *segments
        const int32_t *const *page_table
        int32_t num_domains

cdef extern from "edgeformer/host/memory.h" nogil:
    void *ef_memory_map(size_t bytes, int large_pages)
    void *ef_memory_map_file(int descriptor, size_t bytes)
    void *ef_memory_map_code(const void *code, size_t bytes)
    void ef_memory_trim_heap()
    void ef_memory_unmap(void *memory, size_t bytes)

cdef extern from "edgeformer/plan/grid.h" nogil:
    enum:
        EF_WINDOW_UNFOLD
        EF_WINDOW_WEIGHTED
        EF_WINDOW_COUNT

cdef extern from "edgeformer/plan/experts.h" nogil:
    enum:
        EF_MAX_EXPERTS
        EF_SCORING_COUNT
        EF_ROUTE_COLUMNS

cdef extern from "edgeformer/plan/memory.h" nogil:
    int64_t ef_plan_most_scratch(const ef_cache *cache)

cdef extern from "edgeformer/host/threads.h" nogil:
    enum:
        EF_MAX_THREADS
    ctypedef struct atomic_int:  # opaque
        pass
    int atomic_load(atomic_int *word)
    void atomic_store(atomic_int *word, int value)
    ctypedef struct ef_pool:
        int32_t num_threads
    ef_pool *ef_pool_create(int32_t max_threads)
    void ef_pool_stop(ef_pool *pool)
    void ef_pool_destroy(ef_pool *pool)
    uint64_t ef_set_float_mode()
    void ef_restore_float_mode(uint64_t mode)

cdef extern from "edgeformer/host/guard.h" nogil:
    ctypedef struct sigset_t:  # opaque
        pass
    ctypedef struct ef_mapping:
        atomic_int failed
    void ef_guard_enter(sigset_t *mask)
    void ef_guard_leave(const sigset_t *mask)
    ef_mapping *ef_guard_free_node()
    void ef_guard_append(ef_mapping *mapping)
    void ef_guard_watch(ef_mapping *mapping, const void *base, size_t bytes)
    void ef_guard_forget(ef_mapping *mapping)

cdef extern from "edgeformer/types/pack_run.h" nogil:
    ctypedef int (*ef_fetch)(void *context, uint8_t *target, int64_t offset, int64_t bytes) noexcept nogil
    ctypedef struct ef_pack:
        const ef_kernels *kernels
        const ef_matrix *matrix
        int64_t row_begin
        int64_t row_end
        const uint8_t *source
        ef_fetch fetch
        void *fetch_context
        int64_t offset
        uint8_t *buffers
        int error
        int not_finite
    int64_t ef_pack_buffer_bytes(const ef_matrix *matrix)
    void ef_pack_run(void *pack, ef_pool *pool)

cdef extern from "edgeformer/host/measure.h" nogil:
    ctypedef int64_t (*ef_count)(int64_t rounds) noexcept nogil
    ctypedef struct ef_measure:
        uint64_t result
    ef_measure ef_measure_counts(ef_count count, int64_t rounds, int32_t chunks)
    ef_measure ef_measure_reading(const ef_kernels *kernels, const uint8_t *data, int64_t bytes)
    void ef_measure_run(void *measure, ef_pool *pool)

cdef extern from "edgeformer/kernels/top_rows.h" nogil:
    ctypedef struct ef_top_rows:
        const ef_kernels *kernels
        const float *rows
        int64_t length
        int32_t num_rows
        int32_t wanted
        int32_t *indices
        float *log_probs
        uint64_t *heaps
    void ef_top_rows_run(void *job, ef_pool *pool)

cdef extern from "edgeformer/kernels/kernels.h" nogil:
    int64_t ef_matmul_scratch(const ef_matrix *weight)

cdef extern from "edgeformer/kernels/attention/attention_scratch.h" nogil:
    enum:
        EF_ATTENTION_SPAN
    int64_t ef_attention_scratch(const ef_cache *cache)
    int64_t ef_attention_part(const ef_cache *cache)
    int32_t ef_attention_tiles(int32_t num_queries)
    int32_t ef_attention_spans(int32_t positions)

cdef extern from "edgeformer/plan/run.h" nogil:
    enum:
        EF_RUN_DONE
        EF_RUN_CANCELLED
        EF_RUN_POLLED
    ctypedef struct ef_cancel:
        atomic_int value
        ef_cancel *parent
    int ef_cancel_is_set(ef_cancel *cancel)
    int64_t ef_plan_scratch_bytes(const ef_plan *plan)
    int ef_plan_run(const ef_plan *plan, const ef_batch *batch, ef_pool *pool, uint8_t *scratch, ef_cancel *cancel,
                    int (*poll)(void *) noexcept nogil, void *poll_context)

cdef extern from "edgeformer/isa/dispatch.h" nogil:
    const ef_kernels *ef_kernels_for(const char *name)
    int ef_isa_count()
    const char *ef_isa_name(int index)
    bint ef_isa_supported(int index)
