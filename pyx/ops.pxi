# The kinds of ops and their fields, read from the one list of them (plan/op_list.h).

cdef dict read_fields(str declarations):
    """Name -> (slot, whether it is a float) of fields declared as "(int32_t a, b; float c)"."""
    fields = {}
    for declaration in filter(None, declarations.strip("()").split(";")):
        kind, _, names = declaration.strip().partition(" ")
        for name in names.split(","):
            fields[name.strip()] = (len(fields), kind == "float")
    if len(fields) > EF_OP_SLOTS:
        raise ImportError(f"an op has {len(fields)} fields; there is room for {EF_OP_SLOTS}")
    return fields


cdef list OP_KINDS = [(<bytes>ef_op_list[i].name).decode() for i in range(EF_OP_COUNT)]
cdef list OP_SLOTS = [read_fields((<bytes>ef_op_list[i].fields).decode()) for i in range(EF_OP_COUNT)]

# Kind -> the names of its fields, in their order.
OPS = {kind: tuple(slots) for kind, slots in zip(OP_KINDS, OP_SLOTS)}
# The kinds whose ops form chains: each row passes through all of them.
ROW_WISE_OPS = frozenset(kind for i, kind in enumerate(OP_KINDS) if ef_op_list[i].row_wise)
# The kinds whose ops have a whole row in hand when they quantize it, so that they can give it one scale.
WHOLE_ROW_OPS = frozenset(["row_function", "gate", "activate", "quantize"])


cdef int32_t kind_number(object kind) except -1:
    if kind not in OPS:
        raise InvalidInputError(f"there is no op {kind!r}; there are {', '.join(OPS)}")
    return OP_KINDS.index(kind)


cdef int set_fields(ef_op *op, dict fields) except -1:
    """Sets the fields of an op's kind, which stays as it is; fields that are not named are 0."""
    cdef dict slots = OP_SLOTS[op.kind]
    cdef float real
    for name, value in fields.items():
        if name not in slots:
            raise InvalidInputError(f"{OP_KINDS[op.kind]} has no field {name!r}; it has {', '.join(slots) or 'none'}")
        slot, is_float = slots[name]
        if is_float:
            try:
                real = value
            except (TypeError, OverflowError) as error:
                raise InvalidInputError(f"{name}: {error}") from None
            memcpy(&op.slot[<int>slot], &real, sizeof(real))
        else:
            op.slot[<int>slot] = checked(value, name, -2**31, INT32_MAX)
    return 0
