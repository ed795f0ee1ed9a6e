/* Kernels in plain C, for every machine; what the SIMD kernels must equal bit for bit. */
#include <math.h>

#include "tree_kernels.h"

#define REAL float
#define INFINITE ((float)INFINITY)
#define NAME(x) float_##x
#define float_kernels replay_tree_scalar_float
#include "tree_scalar.h"
#undef REAL
#undef INFINITE
#undef NAME

#define REAL double
#define INFINITE ((double)INFINITY)
#define NAME(x) double_##x
#define double_kernels replay_tree_scalar_double
#include "tree_scalar.h"
