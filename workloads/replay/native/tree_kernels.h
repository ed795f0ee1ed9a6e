/* What is done for a whole level at a time, once for each type and instruction set. */
#ifndef REPLAY_TREE_KERNELS_H
#define REPLAY_TREE_KERNELS_H

#include <stdint.h>

typedef struct replay_tree_kernels {
    /* sums[node] of the `fan_out` children of each of `n` nodes; nodes NULL: 0 to n - 1. */
    void (*sum)(const void *children, void *sums, int fan_out, const int64_t *nodes, int64_t n);
    /* The same for the smallest positive child; of_leaves: zero stands for none, else infinity does. */
    void (*minimum)(const void *children, void *minima, int fan_out, const int64_t *nodes, int64_t n, int of_leaves);
    /* Takes `n` nodes and masses one level down, to the children; `below` are those children's own, or
     * NULL where the children are leaves. */
    void (*descend)(const void *children, const void *below, int fan_out, int64_t *nodes, double *masses, int64_t n);
} replay_tree_kernels;

extern const replay_tree_kernels replay_tree_scalar_float, replay_tree_scalar_double;
extern const replay_tree_kernels replay_tree_avx2_float, replay_tree_avx2_double;

int replay_tree_has_avx2(void); /* the processor, and this build */

#endif
