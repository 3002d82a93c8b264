# Whether ops fit their matrices, vectors, caches and buffers: what the C loop takes for granted.

cdef object FLOATS = "floats"
cdef object QUANTIZED = "quantized rows"
cdef object ROW_SCALED = "quantized rows of one scale each"
cdef object ROUTES = "routes"


cdef enum:
    OPTIONAL = 1  # the operand may be absent
    PADDED = 2    # the kernel may write up to the next multiple of sixteen columns: it must start on one
    BLOCKS = 4    # quantized rows, not floats
    ROW_SCALE = 8 # quantized rows, and every row has one scale
    ROUTED = 16   # what ROUTE leaves, not floats


cdef enum CacheUse:
    STORES = 1
    LOOKS_BACK = 2   # attention whose rows see the positions before them
    LOOKS_AT_ALL = 4 # attention whose rows see every position
    LOOKS_AROUND = 8 # of those, where they see a window around their own
    TAKES_PREFIX = 16
    SEES_ROWS = 32   # attention whose keys are the rows of the run

cdef class OpChecker:
    """Checks one op after the other; keeps what each buffer was found to hold."""

    cdef Plan plan
    cdef const ef_op *op
    cdef Py_ssize_t index
    cdef dict contents

    def __cinit__(self, Plan plan):
        self.plan, self.contents = plan, {}

    cdef object fail(self, str what):
        return InvalidInputError(f"op {self.index} ({OP_KINDS[self.op.kind]}): {what}")

    cdef int32_t field(self, str name) except? -1:
        """An integer field of the op's kind."""
        return self.op.slot[<int>OP_SLOTS[self.op.kind][name][0]]

    cdef float real(self, str name) except? -1:
        """A float field of the op's kind."""
        cdef float value
        memcpy(&value, &self.op.slot[<int>OP_SLOTS[self.op.kind][name][0]], sizeof(value))
        return value

    cdef int one_of(self, str name, int32_t count) except -1:
        """A field that numbers something of which there are `count`."""
        return self.require(0 <= self.field(name) < count, f"{name} {self.field(name)} is unknown")

    cdef int require(self, bint condition, str what) except -1:
        if not condition:
            raise self.fail(what)
        return 0

    cdef int operand(self, str name, ef_operand operand, int64_t columns, int32_t domain, int how=0) except -1:
        """A buffer of the domain with these columns, holding floats or quantized rows. how: flags of the enum above."""
        cdef bint padded = how & PADDED, quantized = how & BLOCKS
        if operand.buffer < 0:
            return self.require(how & OPTIONAL, f"{name} is missing")
        self.require(operand.buffer < self.plan.buffers.count, f"{name} is buffer {operand.buffer} of {self.plan.buffers.count}")
        cdef const ef_buffer *buffer = &self.plan.native.buffers[operand.buffer]
        holds = ROW_SCALED if how & ROW_SCALE else QUANTIZED if quantized else ROUTES if how & ROUTED else FLOATS
        self.require(self.plan.domains[operand.buffer] == domain, f"{name}: buffer {operand.buffer} has rows of another domain")
        found = self.contents.setdefault(operand.buffer, holds)
        self.require(found == holds or (found, holds) == (ROW_SCALED, QUANTIZED), f"{name}: buffer {operand.buffer} does not hold {holds}")
        cdef int64_t last = operand.column + (ef_pad16(columns) if padded else columns)
        if quantized:
            self.require(operand.column == 0 and columns % EF_BLOCK == 0, f"{name}: {columns} columns from {operand.column} in blocks of {EF_BLOCK}")
            last = columns // EF_BLOCK * <int64_t>sizeof(ef_block_activation) + (<int64_t>sizeof(int32_t) if how & ROW_SCALE else 0)
            self.require(last <= buffer.stride, f"{name}: {columns} columns are too wide")
        else:
            self.require(not padded or operand.column % EF_TILE == 0, f"{name}: column {operand.column} is not a multiple of {EF_TILE}")
            self.require(last * 4 <= buffer.stride, f"{name}: column {last} is past the {buffer.stride // 4} of buffer {operand.buffer}")
        return 0

    cdef int vector(self, int which, int64_t size, bint optional=False) except -1:
        cdef int32_t index = self.op.vector[which]
        if index < 0:
            return self.require(optional, f"vector {which} is missing")
        self.require(index < self.plan.vectors.count, f"vector {index} of {self.plan.vectors.count}")
        return self.require(self.plan.vector_sizes[index] >= size, f"vector {index} has {self.plan.vector_sizes[index]} elements, not {size}")

    cdef const ef_matrix *matrix(self) except NULL:
        self.require(0 <= self.op.weight < self.plan.matrices.count, f"matrix {self.op.weight} of {self.plan.matrices.count}")
        return &self.plan.native.matrices[self.op.weight]

    cdef ef_cache *cache(self) except NULL:
        cdef int32_t index = self.field("cache")
        self.require(0 <= index < len(self.plan.cache_objects), f"cache {index} of {len(self.plan.cache_objects)}")
        cdef ef_cache *cache = &self.plan.native.caches[index]
        self.require(0 <= self.field("layer") < cache.num_layers, f"layer {self.field('layer')} of {cache.num_layers}")
        return cache

    cdef int uses_cache(self, int how) except -1:
        key = (self.field("cache"), self.op.domain)
        self.plan.cache_uses[key] = self.plan.cache_uses.get(key, 0) | how
        return 0

    cdef int reads_index(self, int64_t limit, tuple domains, bint optional) except -1:
        """The index input `source` at the rows of the op's domain: below `limit`, or rows of `domains`."""
        self.one_of("source", EF_MAX_INPUTS)
        self.plan.index_uses.append((self.field("source"), self.op.domain, limit, domains, optional))
        return 0

    cdef int32_t other_domain(self, str name) except -1:
        """The domain that a field names."""
        self.one_of(name, len(self.plan.capacities))
        return self.field(name)

    cdef int results(self) except -1:
        """Floats, quantized rows, or both."""
        self.require(self.op.output.buffer >= 0 or self.op.quantized.buffer >= 0, "there is no output")
        self.operand("output", self.op.output, self.op.width, self.op.domain, OPTIONAL | PADDED)
        return self.quantized(self.op.width, OPTIONAL)

    def features(self):
        self.one_of("source", EF_MAX_INPUTS)
        self.plan.feature_uses.append((self.field("source"), self.op.domain, self.op.width))
        self.operand("output", self.op.output, self.op.width, self.op.domain)

    def embed(self):
        self.reads_index(self.matrix().num_rows, (), True)
        self.require(self.op.width == self.matrix().num_columns, f"width {self.op.width} of a matrix of {self.matrix().num_columns} columns")
        self.operand("input", self.op.input[0], self.op.width, self.op.domain, OPTIONAL)
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)

    cdef int input_of(self, int32_t type):
        return BLOCKS | ROW_SCALE if type == EF_I8_ROW else BLOCKS if ef_type_is_quantized(type) else 0

    cdef int quantized(self, int64_t columns, int how=0) except -1:
        """The quantized rows that an op leaves, which may be absent if `how` says so."""
        cdef bint whole = OP_KINDS[self.op.kind] in WHOLE_ROW_OPS
        self.require(whole or not self.op.row_scale, "only ops that have a whole row in hand give it one scale")
        return self.operand("quantized", self.op.quantized, columns, self.op.domain, how | BLOCKS | (ROW_SCALE if self.op.row_scale else 0))

    def linear(self):
        cdef const ef_matrix *weight = self.matrix()
        cdef int64_t gated = self.field("gated"), width = self.op.width
        self.one_of("gated", 2)
        cdef int64_t num_rows = ef_pad16(width) + width if gated else width
        self.require(num_rows == weight.num_rows, f"width {width} of a matrix of {weight.num_rows} rows")
        self.one_of("activation", EF_ACT_COUNT)
        self.vector(0, weight.num_rows, True)
        self.groups(weight)
        self.operand("input", self.op.input[0], max(self.field("groups"), 1) * weight.num_columns, self.op.domain, self.input_of(weight.type))
        self.require(not gated or self.op.input[1].buffer < 0, "gated products have no residual")
        self.operand("residual", self.op.input[1], width, self.op.domain, OPTIONAL)
        self.results()

    cdef int groups(self, const ef_matrix *weight) except -1:
        """A product of parts of the columns, each with a matrix of its own."""
        cdef int64_t groups = self.field("groups"), width = self.op.width
        self.require(0 <= groups <= 2**16, f"{groups} groups")
        if groups <= 1:
            return 0
        self.require(width % (groups * EF_TILE) == 0, f"width {width} is not whole tiles for each of {groups} groups")
        self.require(not self.field("gated"), "groups are not gated")
        return self.require(not ef_type_is_quantized(weight.type), "the matrices of groups are of floats")

    def row_function(self):
        cdef int64_t groups = self.field("groups")
        self.require(self.op.function != NULL, "the row function is missing")
        self.require(1 <= groups <= 2**16, f"{groups} groups")
        self.require(groups == 1 or self.op.quantized.buffer < 0 <= self.op.output.buffer, "groups cannot be quantized")
        self.vector(0, self.op.width, True)
        self.vector(1, self.op.width, True)
        self.operand("input", self.op.input[0], groups * self.op.width, self.op.domain)
        if groups == 1:
            self.results()
            return
        self.operand("output", self.op.output, groups * self.op.width, self.op.domain)

    def rotary(self):
        self.require(self.op.width % 2 == 0, f"width {self.op.width} is odd")
        self.vector(0, self.op.width // 2)
        self.reads_index(INT32_MAX, (), False)
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)

    def rope(self):
        cdef int64_t heads = self.field("num_heads"), head_dim = self.field("head_dim"), half = self.field("half")
        self.require(1 <= heads <= 2**16 and 1 <= half and 2 * half <= head_dim <= 2**16, f"{heads} heads of {head_dim}, half {half}")
        self.one_of("pairing", EF_PAIR_COUNT)
        self.require(self.op.input[0].buffer == self.op.output.buffer and self.op.input[0].column == self.op.output.column,
                     "input and output are the same operand")
        self.operand("output", self.op.output, heads * head_dim, self.op.domain)
        self.operand("rotary", self.op.input[1], 2 * half, self.op.domain)

    def store_kv(self):
        cdef ef_cache *cache = self.cache()
        self.operand("keys", self.op.input[0], cache.num_heads * cache.key_dim, self.op.domain)
        self.operand("values", self.op.input[1], cache.num_heads * cache.value_dim, self.op.domain)
        self.uses_cache(STORES)

    def attention(self):
        cdef ef_cache *cache = self.cache()
        cdef int64_t heads = self.field("num_heads")
        self.require(1 <= heads <= 2**16 and heads % cache.num_heads == 0, f"{heads} heads over {cache.num_heads} of the cache")
        self.one_of("causal", 2)
        self.masks()
        if self.field("relative_buckets"):
            self.relative(heads)
        else:
            self.bias(heads)
        self.vector(1, heads, True)
        self.operand("queries", self.op.input[0], heads * cache.key_dim, self.op.domain)
        self.operand("output", self.op.output, heads * cache.value_dim, self.op.domain)
        self.require(self.op.quantized.buffer < 0 or heads // cache.num_heads * cache.value_dim % EF_BLOCK == 0,
                     "heads of the cache are not whole blocks")
        self.quantized(heads * cache.value_dim, OPTIONAL)
        self.uses_cache(LOOKS_BACK if self.field("causal") else LOOKS_AT_ALL)

    cdef int masks(self) except -1:
        """Which positions a row sees, and the soft cap of its scores."""
        cdef int32_t window = self.field("window")
        cdef float soft_cap = self.real("soft_cap"), least = 1e-6, most = 1e6
        self.require(window >= 0, f"window {window}")
        self.require(self.field("prefix") in (0, self.field("causal")), "only causal attention has a prefix")
        self.require(soft_cap == 0 or least <= soft_cap <= most, f"soft_cap {soft_cap:g} is not 0 or from 1e-6 to 1e6")
        if not self.field("causal") and window > 0:
            self.uses_cache(LOOKS_AROUND)
        if self.field("prefix"):
            self.uses_cache(TAKES_PREFIX)
        return 0

    cdef int bias(self, int64_t heads) except -1:
        """The table of a bias, where there is one, holds every distance or position."""
        cdef int64_t rows = self.field("bias_rows"), columns = self.field("bias_columns"), behind = self.field("bias_behind")
        if self.op.vector[0] < 0:
            return self.require(rows == columns == behind == 0, "the bias is missing")
        self.require(0 <= rows <= 2**16 and 1 <= columns <= 2**24, f"a bias of {rows} rows and {columns} columns")
        self.require(0 <= behind < (1 if rows else columns), f"a bias of {rows} rows and {columns} columns, {behind} behind")
        if rows == 0:
            return self.vector(0, heads * ef_bias_by_distance(NULL, behind, columns - 1 - behind).head_stride)
        key = (self.field("cache"), self.op.domain)
        most_rows, most_columns = self.plan.bias_sizes.get(key, (rows, columns))
        self.plan.bias_sizes[key] = min(rows, most_rows), min(columns, most_columns)
        return self.vector(0, heads * ef_bias_dense(NULL, rows, columns).head_stride)

    cdef int relative(self, int64_t heads) except -1:
        """What rows add to scores: a number for each bucket, and a bucket for each distance."""
        cdef int64_t buckets = self.field("relative_buckets"), columns = self.field("bias_columns"), behind = self.field("bias_behind")
        cdef int64_t i
        self.require(1 <= buckets <= 2**16, f"{buckets} buckets")
        self.require(1 <= columns <= 2**24 and 0 <= behind < columns, f"buckets of {columns} distances, {behind} behind")
        self.require(self.field("bias_rows") == 0 and not self.field("causal"), "buckets go with neither a dense bias nor a causal mask")
        self.vector(0, columns)
        cdef const float *numbers = self.plan.native.vectors[self.op.vector[0]]
        for i in range(columns):
            if not (0 <= numbers[i] < buckets and numbers[i] == <int64_t>numbers[i]):
                raise self.fail(f"{numbers[i]:g} is not the number of one of {buckets} buckets")
        self.operand("relative", self.op.input[1], 2 * heads * buckets, self.op.domain)
        return self.uses_cache(SEES_ROWS)

    cdef int inputs(self, int count) except -1:
        """So many inputs of the width of the result."""
        cdef int i
        for i in range(count):
            self.operand(f"input {i}", self.op.input[i], self.op.width, self.op.domain)
        return 0

    def gate(self):
        self.one_of("activation", EF_ACT_COUNT)
        cdef float limit = self.real("limit"), offset = self.real("offset"), most = 1e6
        self.require(0 <= limit <= most, f"limit {limit:g} is not from 0 to 1e6")
        self.require(-most <= offset <= most and (limit > 0 or offset == 0), f"offset {offset:g} with the limit {limit:g}")
        self.inputs(2)
        self.results()

    def activate(self):
        self.one_of("activation", EF_ACT_COUNT)
        self.inputs(1)
        self.results()

    def add(self):
        self.inputs(2)
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)

    def weight_rows(self):
        self.inputs(1)
        self.operand("weights", self.op.input[1], 1, self.op.domain)
        self.operand("output", self.op.output, self.op.width, self.op.domain)

    def quantize(self):
        self.operand("input", self.op.input[0], self.op.width, self.op.domain)
        self.quantized(self.op.width)

    def route(self):
        cdef int64_t used = self.field("used"), experts = self.field("num_experts")
        self.require(1 <= used <= experts <= EF_MAX_EXPERTS, f"{used} of {experts} experts, at most {EF_MAX_EXPERTS}")
        self.one_of("scoring", EF_SCORING_COUNT)
        self.one_of("normalized", 2)
        self.vector(0, experts, True)
        self.plan.row_counts.append((self.op.domain, self.other_domain("rows"), used))
        self.operand("logits", self.op.input[0], experts, self.field("rows"))
        self.operand("routes", self.op.output, EF_ROUTE_COLUMNS, self.op.domain, ROUTED | PADDED)

    def dispatch(self):
        self.operand("input", self.op.input[0], self.op.width, self.other_domain("rows"))
        self.operand("routes", self.op.input[1], EF_ROUTE_COLUMNS, self.op.domain, ROUTED | PADDED)
        self.operand("output", self.op.output, self.op.width, self.op.domain)

    def expert_linear(self):
        cdef const ef_matrix *weight = self.matrix()
        cdef int64_t experts = self.field("num_experts"), rows = ef_pad16(self.op.width)
        self.require(1 <= experts <= EF_MAX_EXPERTS, f"{experts} experts")
        self.require((experts - 1) * rows + self.op.width == weight.num_rows, f"{experts} times {self.op.width} rows of a matrix of {weight.num_rows}")
        self.vector(0, experts * rows, True)
        self.operand("input", self.op.input[0], weight.num_columns, self.op.domain, self.input_of(weight.type))
        self.operand("routes", self.op.input[1], EF_ROUTE_COLUMNS, self.op.domain, ROUTED | PADDED)
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)

    def combine(self):
        cdef int64_t used = self.field("used")
        self.require(1 <= used <= EF_MAX_EXPERTS, f"{used} choices")
        self.plan.row_counts.append((self.other_domain("rows"), self.op.domain, used))
        self.operand("input", self.op.input[0], self.op.width, self.field("rows"))
        self.operand("routes", self.op.input[1], EF_ROUTE_COLUMNS, self.field("rows"), ROUTED | PADDED)
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)

    def concatenate(self):
        cdef int64_t first = self.field("first")
        self.require(1 <= first < self.op.width, f"the first {first} of {self.op.width} columns")
        self.operand("input", self.op.input[0], first, self.op.domain)
        self.operand("second input", self.op.input[1], self.op.width - first, self.op.domain)
        self.operand("output", self.op.output, self.op.width, self.op.domain)

    def gather(self):
        cdef int more = self.field("more_rows")
        rows = (self.other_domain("rows"),)
        self.reads_index(0, rows if more < 0 else (*rows, self.other_domain("more_rows")), False)
        self.operand("input", self.op.input[0], self.op.width, self.field("rows"))
        self.require((more < 0) == (self.op.input[1].buffer < 0), "the second input and its domain come together")
        if more >= 0:
            self.operand("second input", self.op.input[1], self.op.width, more)
        self.operand("output", self.op.output, self.op.width, self.op.domain)

    def window(self):
        cdef int64_t taps = <int64_t>self.field("kernel_height") * self.field("kernel_width")
        for name in ("kernel_height", "kernel_width", "stride_height", "stride_width", "dilation_height", "dilation_width"):
            self.require(1 <= self.field(name) <= 2**16, f"{name} {self.field(name)}")
        for name in ("padding_top", "padding_left"):
            self.require(0 <= self.field(name) <= 2**16, f"{name} {self.field(name)}")
        self.one_of("reduction", EF_WINDOW_COUNT)
        cdef int32_t reduction = self.field("reduction")
        self.require(taps <= 2**24, f"{taps} rows under a window")
        # One row is computed without a look at whether to stop.
        self.require(taps * self.op.width <= 2**26 or reduction == EF_WINDOW_UNFOLD, f"{taps} rows of {self.op.width} columns under a window")
        self.plan.same_segments.append((self.op.domain, self.other_domain("rows")))
        if reduction == EF_WINDOW_UNFOLD:
            self.require(self.op.width % taps == 0, f"width {self.op.width} of {taps} rows side by side")
            self.operand("input", self.op.input[0], self.op.width // taps, self.field("rows"))
            self.operand("output", self.op.output, self.op.width, self.op.domain)
            return
        if reduction == EF_WINDOW_WEIGHTED:
            self.vector(0, taps * ef_pad16(self.op.width))
            self.vector(1, self.op.width, True)
        self.operand("input", self.op.input[0], self.op.width, self.field("rows"))
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)

    def split(self):
        cdef int64_t parts = self.field("parts")
        self.require(1 <= parts <= 2**16, f"{parts} parts")
        self.plan.row_counts.append((self.op.domain, self.other_domain("rows"), parts))
        self.operand("input", self.op.input[0], self.op.width * parts, self.field("rows"))
        self.operand("output", self.op.output, self.op.width, self.op.domain)

    def pool(self):
        self.one_of("pooling", EF_POOL_COUNT)
        self.plan.row_counts.append((self.op.domain, self.other_domain("rows"), 0))
        self.operand("input", self.op.input[0], self.op.width, self.field("rows"))
        self.operand("output", self.op.output, self.op.width, self.op.domain, PADDED)


cdef int check_ops(Plan plan) except -1:
    """Checks all ops of a plan, and notes what its batches must have."""
    cdef OpChecker checker = OpChecker(plan)
    cdef Py_ssize_t i
    plan.index_uses, plan.feature_uses, plan.same_segments, plan.row_counts, plan.cache_uses = [], [], [], [], {}
    plan.bias_sizes = {}
    for i in range(plan.ops.count):
        checker.op, checker.index = &plan.native.ops[i], i
        checker.require(checker.op.domain < len(plan.capacities), f"domain {checker.op.domain} of {len(plan.capacities)}")
        getattr(checker, OP_KINDS[checker.op.kind])()
    plan.index_uses = list(dict.fromkeys(plan.index_uses))
    plan.same_segments, plan.row_counts = list(set(plan.same_segments)), list(set(plan.row_counts))
    return 0
