/* The kernels of every instruction set that this compiler can target (targets.h), and the choice among them at run time. */
#ifndef EDGEFORMER_DISPATCH_H
#define EDGEFORMER_DISPATCH_H

#include "edgeformer/host/cpu.h"
#include "edgeformer/isa/targets.h"

#define EF_ISA_ROW(isa) extern const ef_kernels ef_kernels_##isa; /* isa/<isa>.c */
EF_ISA_LIST(EF_ISA_ROW)
#undef EF_ISA_ROW

typedef struct { const ef_kernels *kernels; int (*supported)(void); } ef_isa;

#define EF_ISA_ROW(isa) {&ef_kernels_##isa, ef_cpu_has_##isa},
static const ef_isa ef_isa_table[] = {EF_ISA_LIST(EF_ISA_ROW)};
#undef EF_ISA_ROW

/* Instruction sets compiled in, best first: 0 <= index < ef_isa_count(). */
static inline int ef_isa_count(void) { return (int)(sizeof ef_isa_table / sizeof ef_isa_table[0]); }
static inline const char *ef_isa_name(int index) { return ef_isa_table[index].kernels->isa; }
/* Whether this CPU runs it. */
static inline int ef_isa_supported(int index) { return ef_isa_table[index].supported() != 0; }

/* The kernels of an instruction set; NULL if it is unknown, not compiled in, or beyond this CPU. */
static inline const ef_kernels *ef_kernels_for(const char *isa_name)
{
    for (int i = 0; i < ef_isa_count(); i++)
        if (strcmp(ef_isa_name(i), isa_name) == 0)
            return ef_isa_supported(i) ? ef_isa_table[i].kernels : NULL;
    return NULL;
}

#endif
