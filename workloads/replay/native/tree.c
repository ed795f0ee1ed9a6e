#include "tree.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "power.h"
#include "tree_kernels.h"

#define CHUNK 512            /* indices and nodes that live on the stack */

static int bad_geometry(int64_t capacity, int fan_out)
{
    return capacity < 1 || capacity > REPLAY_TREE_CAPACITY_MAX || fan_out < 2 || fan_out > 64 ||
           (fan_out & (fan_out - 1)) != 0;
}

static size_t aligned(size_t bytes)
{
    return (bytes + REPLAY_TREE_ALIGNMENT - 1) / REPLAY_TREE_ALIGNMENT * REPLAY_TREE_ALIGNMENT;
}

/* Lays the tree out from `memory` on (which may be NULL, to measure), and returns its bytes. */
static size_t lay_out(replay_tree *t, char *memory)
{
    size_t item = t->is_double ? sizeof(double) : sizeof(float);
    size_t at = REPLAY_TREE_ALIGNMENT; /* the first line is for `keeps_minima` */
    int64_t nodes = t->capacity;
    int level = 0;
    t->keeps_minima = (int64_t *)memory;
    for (;; level++) {
        int64_t groups = (nodes + t->fan_out - 1) / t->fan_out;
        int is_root = level > 0 && nodes == 1;
        size_t bytes = aligned((is_root ? 1 : (size_t)groups * (size_t)t->fan_out) * item);
        t->nodes[level] = nodes;
        t->sums[level] = memory ? memory + at : NULL;
        at += bytes;
        t->minima[level] = memory && level > 0 ? memory + at : NULL;
        at += level > 0 ? bytes : 0;
        if (is_root)
            break;
        nodes = groups;
    }
    t->levels = level + 1;
    return at;
}

static int describe(replay_tree *t, int64_t capacity, int fan_out, int is_double)
{
    if (bad_geometry(capacity, fan_out))
        return -1;
    memset(t, 0, sizeof *t);
    t->capacity = capacity;
    t->fan_out = fan_out;
    while (1 << t->fan_out_log2 < fan_out)
        t->fan_out_log2++;
    t->is_double = is_double != 0;
    int bits = 1;
    while (INT64_C(1) << (bits - 1) < capacity)
        bits++;
    t->limit = ldexp(1.0, (is_double ? DBL_MAX_EXP : FLT_MAX_EXP) - 1 - bits);
    return 0;
}

size_t replay_tree_bytes(int64_t capacity, int fan_out, int is_double)
{
    replay_tree t;
    return describe(&t, capacity, fan_out, is_double) ? 0 : lay_out(&t, NULL);
}

int replay_tree_view(replay_tree *t, void *memory, int64_t capacity, int fan_out, int is_double)
{
    if (memory == NULL || (uintptr_t)memory % REPLAY_TREE_ALIGNMENT || describe(t, capacity, fan_out, is_double))
        return -1;
    lay_out(t, memory);
    return replay_tree_use(t, replay_tree_has_avx2());
}

int replay_tree_use(replay_tree *t, int simd)
{
    if (simd == 0)
        t->kernels = t->is_double ? &replay_tree_scalar_double : &replay_tree_scalar_float;
    else if (simd == 1 && replay_tree_has_avx2())
        t->kernels = t->is_double ? &replay_tree_avx2_double : &replay_tree_avx2_float;
    else
        return -1;
    return 0;
}

void replay_tree_clear(replay_tree *t)
{
    memset(t->keeps_minima, 0, replay_tree_bytes(t->capacity, t->fan_out, t->is_double));
}

/* Nodes of a level (1 and up) from their children: those listed, or all. */
static void renew(replay_tree *t, int level, const int64_t *nodes, int64_t n)
{
    t->kernels->sum(t->sums[level - 1], t->sums[level], t->fan_out, nodes, n);
    if (*t->keeps_minima)
        t->kernels->minimum(level > 1 ? t->minima[level - 1] : t->sums[0], t->minima[level], t->fan_out, nodes, n,
                            level == 1);
}

/* Padding of minima is infinite: it must not be the smallest. */
static void pad_minima(replay_tree *t, int level)
{
    int64_t padded = (t->nodes[level] + t->fan_out - 1) / t->fan_out * t->fan_out;
    for (int64_t i = t->nodes[level]; level < t->levels - 1 && i < padded; i++) {
        if (t->is_double)
            ((double *)t->minima[level])[i] = (double)INFINITY;
        else
            ((float *)t->minima[level])[i] = INFINITY;
    }
}

void replay_tree_rebuild(replay_tree *t)
{
    for (int level = 1; level < t->levels; level++) {
        if (*t->keeps_minima)
            pad_minima(t, level);
        renew(t, level, NULL, t->nodes[level]);
    }
}

double replay_tree_min(replay_tree *t)
{
    if (!*t->keeps_minima) {
        *t->keeps_minima = 1;
        replay_tree_rebuild(t);
    }
    const void *root = t->minima[t->levels - 1];
    double least = t->is_double ? *(const double *)root : (double)*(const float *)root;
    return isinf(least) ? 0 : least;
}

/* A leaf as it is stored: no negative zero, and nothing positive too small for a normal number. */
static inline void store(replay_tree *t, int64_t index, double value)
{
    if (t->is_double)
        ((double *)t->sums[0])[index] = value > 0 && value < DBL_MIN ? DBL_MIN : value + 0.0;
    else
        ((float *)t->sums[0])[index] = value > 0 && value < FLT_MIN ? FLT_MIN : (float)(value + 0.0);
}

/* The parents of `n` nodes; of equal neighbours one. `parents` may be `nodes`. */
static int64_t to_parents(const int64_t *nodes, int64_t n, int fan_out_log2, int64_t *parents)
{
    int64_t kept = 0, last = -1;
    for (int64_t j = 0; j < n; j++) {
        int64_t parent = nodes[j] >> fan_out_log2;
        parents[kept] = parent;
        kept += parent != last;
        last = parent;
    }
    return kept;
}

/* Everything above `n` leaves that have changed, at most CHUNK. Nodes that are not neighbours but equal are made more
 * than once: to find them would take longer. They are few where a level has many more nodes than are listed, and where
 * it has no more all of it is made, without a list. */
static void renew_above(replay_tree *t, const int64_t *leaves, int64_t n)
{
    int64_t nodes[CHUNK];
    const int64_t *below = leaves;
    for (int level = 1; level < t->levels; level++) {
        if (below != NULL) {
            n = to_parents(below, n, t->fan_out_log2, nodes);
            below = n < t->nodes[level] ? nodes : NULL;
        }
        renew(t, level, below, below ? n : t->nodes[level]);
    }
}

static void set_any(replay_tree *t, const int64_t *indices, const double *doubles, const float *floats, int64_t n)
{
    int all = n > t->nodes[1];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t end = n - at < CHUNK ? n : at + CHUNK;
        for (int64_t j = at; j < end; j++)
            store(t, indices[j], doubles ? doubles[j] : (double)floats[j]);
        if (!all)
            renew_above(t, indices + at, end - at);
    }
    if (all)
        replay_tree_rebuild(t);
}

void replay_tree_set(replay_tree *t, const int64_t *indices, const double *values, int64_t n)
{
    set_any(t, indices, values, NULL, n);
}

void replay_tree_set_float(replay_tree *t, const int64_t *indices, const float *values, int64_t n)
{
    set_any(t, indices, NULL, values, n);
}

void replay_tree_set_one(replay_tree *t, int64_t index, double value)
{
    set_any(t, &index, &value, NULL, 1);
}

/* These look at everything without a branch, several at a time, and again only where something is wrong: at no more than
 * there is, even if another thread has put it right meanwhile. */
int64_t replay_tree_invalid(const replay_tree *t, const double *values, int64_t n)
{
    int64_t bad = 0, j = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= !((values[i] >= 0) & (values[i] <= t->limit));
    while (bad && j < n && values[j] >= 0 && values[j] <= t->limit)
        j++;
    return bad ? j : n;
}

int64_t replay_tree_invalid_float(const replay_tree *t, const float *values, int64_t n)
{
    int64_t bad = 0, j = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= !((values[i] >= 0) & ((double)values[i] <= t->limit));
    while (bad && j < n && values[j] >= 0 && (double)values[j] <= t->limit)
        j++;
    return bad ? j : n;
}

int64_t replay_tree_outside(const replay_tree *t, const int64_t *indices, int64_t n)
{
    const uint64_t last = (uint64_t)t->capacity - 1;
    uint64_t signs = 0; /* of the index, and of how far it is from the last one */
    int64_t j = 0;
    for (int64_t i = 0; i < n; i++)
        signs |= (uint64_t)indices[i] | (last - (uint64_t)indices[i]);
    int bad = signs >> 63 != 0;
    while (bad && j < n && (uint64_t)indices[j] <= last)
        j++;
    return bad ? j : n;
}

double replay_tree_get(const replay_tree *t, int64_t index)
{
    return t->is_double ? ((const double *)t->sums[0])[index] : (double)((const float *)t->sums[0])[index];
}

double replay_tree_total(const replay_tree *t)
{
    const void *root = t->sums[t->levels - 1];
    return t->is_double ? *(const double *)root : (double)*(const float *)root;
}

/* At most CHUNK draws, one level down together, so that the memory of one is fetched while others are served. Uses up
 * the masses. */
static void find_chunk(const replay_tree *t, double *masses, int64_t *nodes, double *leaves, int64_t n)
{
    memset(nodes, 0, (size_t)n * sizeof *nodes);
    for (int level = t->levels - 2; level >= 0; level--)
        t->kernels->descend(t->sums[level], level > 0 ? t->sums[level - 1] : NULL, t->fan_out, nodes, masses, n);
    for (int64_t j = 0; j < n; j++) {
        nodes[j] = nodes[j] < t->capacity ? nodes[j] : t->capacity - 1; /* only where the total was 0 */
        leaves[j] = replay_tree_get(t, nodes[j]);
    }
}

void replay_tree_find(const replay_tree *t, const double *masses, int64_t *indices, double *leaves, int64_t n)
{
    double rest[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t count = n - at < CHUNK ? n - at : CHUNK;
        memcpy(rest, masses + at, (size_t)count * sizeof *rest);
        find_chunk(t, rest, indices + at, leaves + at, count);
    }
}

/* Uniform `j` of `n`, as a mass. */
static inline double mass_of(double uniform, double total, int64_t j, int64_t n, int stratified)
{
    return (stratified ? ((double)j + uniform) / (double)n : uniform) * total;
}

void replay_tree_draw(const replay_tree *t, const replay_generator *generator, int64_t *indices, double *leaves,
                      int64_t n, int stratified)
{
    double masses[CHUNK], total = replay_tree_total(t);
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t count = n - at < CHUNK ? n - at : CHUNK;
        replay_uniforms(generator, masses, count);
        for (int64_t j = 0; j < count; j++)
            masses[j] = mass_of(masses[j], total, at + j, n, stratified);
        find_chunk(t, masses, indices + at, leaves + at, count);
    }
}

void replay_tree_weights(const double *leaves, int64_t n, double beta, double smallest, float *weights)
{
    double chunk[CHUNK];
    if (smallest == 0) {
        smallest = n > 0 ? leaves[0] : 0;
        for (int64_t j = 1; j < n; j++)
            smallest = leaves[j] < smallest ? leaves[j] : smallest;
    }
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t count = n - at < CHUNK ? n - at : CHUNK;
        for (int64_t j = 0; j < count; j++)
            chunk[j] = smallest / leaves[at + j];
        replay_power(chunk, beta, chunk, count);
        for (int64_t j = 0; j < count; j++)
            weights[at + j] = (float)chunk[j];
    }
}
