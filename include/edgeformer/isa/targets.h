/* The instruction sets that this compiler can target, and the regions that it translates for one of them.
 *
 * No build flag is needed and the build host is never looked at: isa/<name>.c compiles all kernels for an instruction set
 * in a region of its own (GCC: `#pragma GCC target`, Clang: an attribute on every function), and they run only where cpu.h
 * finds it. Headers belong before the region: what they define is for every CPU.
 *
 * A new instruction set is a family in simd.h or a product in kernels/products.h, a function in cpu.h, a file in isa/ and a
 * row in EF_ISA_LIST.
 */
#ifndef EDGEFORMER_TARGETS_H
#define EDGEFORMER_TARGETS_H

#include "edgeformer/kernels/kernels.h"
#include "edgeformer/simd/simd.h"
#include "edgeformer/kernels/products/products.h"

/* EF_ISA_LIST(row): row(name) for each, best first. */
#if defined(__x86_64__)
#define EF_TARGETS_X86 1
#define EF_ISA_LIST(row) row(avx512vnni) row(avxvnni) row(avx2) row(scalar)
#elif defined(__aarch64__)
#define EF_TARGETS_NEON 1
/* Clang before 16 declares the intrinsics only where the whole translation unit has the feature. */
#if defined(__clang__) && __clang_major__ < 16 && !defined(__ARM_FEATURE_DOTPROD)
#define EF_ISA_LIST(row) row(neon) row(scalar)
#else
#define EF_TARGETS_DOTPROD 1
#define EF_ISA_LIST(row) row(i8mm) row(dotprod) row(neon) row(scalar)
#endif
#else
#define EF_ISA_LIST(row) row(scalar)
#endif

#define EF_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define EF_REGION_BEGIN(features) \
    EF_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define EF_REGION_END EF_PRAGMA(clang attribute pop)
#else
#define EF_REGION_BEGIN(features) EF_PRAGMA(GCC push_options) EF_PRAGMA(GCC target(features))
#define EF_REGION_END EF_PRAGMA(GCC pop_options)
#endif

#endif
