#define _POSIX_C_SOURCE 200809L /* robust mutexes, clocks */
#include "ring.h"

#include <float.h>
#include <string.h>

#include "power.h"
#include "ring_memory.h"

/* ---- layout ---- */

static size_t aligned(size_t bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

size_t replay_ring_bytes(int64_t capacity, const size_t *field_bytes, int fields, int fan_out, int is_double)
{
    replay_rows rows;
    size_t tree = replay_tree_bytes(capacity, fan_out, is_double);
    if (tree == 0 || replay_rows_describe(&rows, field_bytes, fields))
        return 0;
    size_t slot = rows.stride_words * sizeof(replay_word);
    if ((size_t)capacity > (SIZE_MAX / 4 - tree) / slot)
        return 0;
    return aligned(sizeof(memory)) + aligned(tree) + aligned((size_t)capacity * slot);
}

int replay_ring_view(replay_ring *r, void *at, int64_t capacity, const size_t *field_bytes, int fields, int fan_out,
                     int is_double)
{
    size_t bytes = replay_ring_bytes(capacity, field_bytes, fields, fan_out, is_double);
    if (at == NULL || (uintptr_t)at % LINE || bytes == 0)
        return -1;
    r->capacity = capacity;
    r->first_writer = 0;
    r->memory = at;
    r->alpha = r->memory->alpha;
    r->eps = r->memory->eps;
    char *tree = (char *)at + aligned(sizeof(memory));
    replay_rows_describe(&r->rows, field_bytes, fields);
    r->rows.slots = (replay_word *)(tree + aligned(replay_tree_bytes(capacity, fan_out, is_double)));
    return replay_tree_view(&r->tree, tree, capacity, fan_out, is_double);
}

static int make_locks(memory *m)
{
    int error = replay_lock_create(&m->lock);
    for (int w = 0; !error && w < REPLAY_RING_WRITERS; w++)
        error = replay_lock_create(&m->writers[w].mutex);
    return error;
}

/* A priority of 0 stays 0, whatever is added to others and whatever the exponent. */
static void make_leaves(const replay_ring *r, const double *priorities, double *leaves, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        leaves[i] = priorities[i] > 0 ? priorities[i] + r->eps : 0;
    replay_power(leaves, r->alpha, leaves, n);
}

static double leaf_of(const replay_ring *r, double priority)
{
    double leaf;
    make_leaves(r, &priority, &leaf, 1);
    return leaf;
}

int replay_ring_create(replay_ring *r, double alpha, double eps)
{
    memory *m = r->memory;
    m->alpha = r->alpha = alpha;
    m->eps = r->eps = eps;
    atomic_store_explicit(&m->max_priority, 1, memory_order_relaxed);
    m->max_leaf = leaf_of(r, 1);
    return make_locks(m);
}

int64_t replay_ring_join(replay_ring *r)
{
    return 1 + atomic_fetch_add_explicit(&r->memory->joined, 1, memory_order_relaxed);
}

int64_t replay_ring_joined(const replay_ring *r)
{
    return atomic_load_explicit(&r->memory->joined, memory_order_relaxed);
}

int64_t replay_ring_added(const replay_ring *r)
{
    return atomic_load_explicit(&r->memory->added, memory_order_relaxed);
}

int64_t replay_ring_repaired(const replay_ring *r)
{
    return atomic_load_explicit(&r->memory->repaired, memory_order_relaxed);
}

double replay_ring_max_priority(const replay_ring *r)
{
    return atomic_load_explicit(&r->memory->max_priority, memory_order_relaxed);
}

int64_t replay_ring_leaves(const replay_ring *r, const double *priorities, double *leaves, int64_t n)
{
    int64_t bad = 0, first = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= !((priorities[i] >= 0) & (priorities[i] <= DBL_MAX)); /* without a branch, several at a time */
    while (bad && first < n && priorities[first] >= 0 && priorities[first] <= DBL_MAX)
        first++;
    if (bad && first < n)
        return first;
    make_leaves(r, priorities, leaves, n);
    return replay_tree_invalid(&r->tree, leaves, n);
}

/* ---- the lock ---- */

/* Its owner died at some point: leaves are right, sums above them may not be. */
void ring_rebuild(replay_ring *r)
{
    replay_tree_rebuild(&r->tree);
    r->memory->max_leaf = leaf_of(r, replay_ring_max_priority(r));
}

int ring_lock(replay_ring *r, int wait)
{
    pthread_mutex_t *mutex = &r->memory->lock;
    int outcome = wait ? replay_lock_block(mutex, REPLAY_RING_SLICE_MS) : replay_lock_spin(mutex);
    if (outcome == REPLAY_LOCK_OWNER_DIED) {
        ring_rebuild(r);
        ring_note_torn(r); /* it may have left a claim of tickets that are given out again */
        atomic_fetch_add_explicit(&r->memory->repaired, 1, memory_order_relaxed);
        replay_lock_repair(mutex);
        outcome = REPLAY_LOCK_TAKEN;
    }
    if (outcome == REPLAY_LOCK_TAKEN)
        return REPLAY_RING_DONE;
    return outcome == REPLAY_LOCK_BUSY ? REPLAY_RING_BUSY : REPLAY_RING_BROKEN;
}

pthread_mutex_t *replay_ring_lock(const replay_ring *r)
{
    return &r->memory->lock;
}

int replay_ring_after_fork(replay_ring *r)
{
    int error = make_locks(r->memory);
    if (r->memory->claimed)
        ring_note_torn(r);
    r->memory->claimed = 0;
    ring_rebuild(r);
    return error;
}

void ring_raise_maximum(replay_ring *r, double priority, double leaf)
{
    if (priority > replay_ring_max_priority(r)) {
        atomic_store_explicit(&r->memory->max_priority, priority, memory_order_relaxed);
        r->memory->max_leaf = leaf;
    }
}
