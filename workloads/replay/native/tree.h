/* A K-ary sum tree over priorities, in memory that its owner provides.
 *
 * Level 0 holds the leaves; a node of the level above is the sum of K neighbours; the last level is the
 * root alone. Levels are stored apart, each aligned to 64 bytes and padded with zeros to whole groups of
 * K, never to a power of K. For normalisation over a whole buffer every inner node may also have the
 * smallest positive leaf below it; those are kept from the first call of replay_tree_min on.
 *
 * Sums are always made anew from the level below, never changed by a difference, and in one order: the
 * K children are folded in halves (child i plus child i + K/2, and so on) in the tree's own type. A
 * search descends with a mass in double. In a node the inclusive prefix sums p[i], in the tree's type,
 * are made in blocks of four: in a block, s[i] = c[i] + c[i-1], p[i] = s[i] + s[i-2] (terms from
 * outside the block left out); then every p of block b has the last p of the blocks before it added,
 * these being summed one after the other. It goes on in the first child i with c[i] > 0 and
 * p[i] > mass, or if there is none in the last with c[i] > 0; the mass becomes max(mass - p[i-1], 0).
 * All implementations agree in every bit.
 *
 * Memory of zeros is an empty tree. No function allocates, blocks, or needs Python. None locks: calls
 * on one tree exclude each other, or all only read (get, total, find).
 */
#ifndef REPLAY_TREE_H
#define REPLAY_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "generator.h"

#define REPLAY_TREE_ALIGNMENT 64      /* of the memory given, and of every level in it */
#define REPLAY_TREE_LEVELS 42         /* enough for the largest capacity at fan-out 2 */
#define REPLAY_TREE_CAPACITY_MAX (INT64_C(1) << 40)

struct replay_tree_kernels;

/* Geometry and addresses: each process has its own, it is never in shared memory. Only read outside. */
typedef struct replay_tree {
    int64_t capacity;
    int fan_out;
    int fan_out_log2;
    int is_double;
    int levels;                                /* with the leaves and the root */
    double limit;                              /* the largest leaf: no sum of such overflows */
    int64_t nodes[REPLAY_TREE_LEVELS];         /* of each level, padding not counted */
    void *sums[REPLAY_TREE_LEVELS];            /* float or double; sums[0] are the leaves */
    void *minima[REPLAY_TREE_LEVELS];          /* none for the leaves */
    int64_t *keeps_minima;                     /* in the memory: whether minima are up to date */
    const struct replay_tree_kernels *kernels; /* scalar or SIMD */
} replay_tree;

/* Bytes that a tree needs; 0 for a bad geometry: capacity 1 to 2^40, fan_out a power of two 2 to 64. */
size_t replay_tree_bytes(int64_t capacity, int fan_out, int is_double);

/* Makes a view of `memory`, which it leaves as it is. 0; or -1: bad geometry, or not aligned to 64 bytes. */
int replay_tree_view(replay_tree *t, void *memory, int64_t capacity, int fan_out, int is_double);

void replay_tree_clear(replay_tree *t);

/* Inner nodes from leaves, as after a writer died between two levels, or leaves came from a file. */
void replay_tree_rebuild(replay_tree *t);

/* Leaves as given: 0 <= index < capacity, 0 <= value <= t->limit (see replay_tree_invalid). The last of
 * equal indices wins. A positive value below the smallest normal number of the tree's type becomes that
 * number, so that what is positive can be drawn. */
void replay_tree_set(replay_tree *t, const int64_t *indices, const double *values, int64_t n);
void replay_tree_set_float(replay_tree *t, const int64_t *indices, const float *values, int64_t n);
void replay_tree_set_one(replay_tree *t, int64_t index, double value);

/* The first position whose value no leaf may have (NaN, negative, infinite, above limit), or n. */
int64_t replay_tree_invalid(const replay_tree *t, const double *values, int64_t n);
int64_t replay_tree_invalid_float(const replay_tree *t, const float *values, int64_t n);

/* The first position whose index is outside of 0 <= index < capacity, or n. */
int64_t replay_tree_outside(const replay_tree *t, const int64_t *indices, int64_t n);

double replay_tree_get(const replay_tree *t, int64_t index);
double replay_tree_total(const replay_tree *t);

/* The smallest positive leaf; 0 if none is. The first call looks at all leaves, and from then on
 * replay_tree_set keeps minima too, in every process that shares the memory. */
double replay_tree_min(replay_tree *t);

/* For each mass (0 <= mass, usually u * total) the leaf it falls on, and its value. The total must be
 * positive; then a leaf found is positive and inside the capacity, whatever the mass. */
void replay_tree_find(const replay_tree *t, const double *masses, int64_t *indices, double *leaves, int64_t n);

/* The same as find, with masses u * total, or in strata (i + u) / n * total, and u from a generator whose lock the
 * caller holds. */
void replay_tree_draw(const replay_tree *t, const replay_generator *generator, int64_t *indices, double *leaves,
                      int64_t n, int stratified);

/* Importance weights (smallest / leaf)^beta, by replay_power; where `smallest` is 0 it is that of `leaves`. */
void replay_tree_weights(const double *leaves, int64_t n, double beta, double smallest, float *weights);

/* 0 scalar, 1 AVX2. The view uses the best that the processor has; replay_tree_use takes another one, for
 * tests, and says -1 where it is not to be had. */
int replay_tree_use(replay_tree *t, int simd);

#endif
