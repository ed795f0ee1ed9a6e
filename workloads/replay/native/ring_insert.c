#define _POSIX_C_SOURCE 200809L /* robust mutexes, clocks */
/* Inserting: the three steps of a row, and how writers stay out of each other's way. */
#include "ring_memory.h"

/* ---- writers ---- */

/* Takes a writer's mutex, or waits for one. */
static int take_writer(replay_ring *r, replay_ring_claim *claim, int wait)
{
    sign_of_life *writers = r->memory->writers;
    int outcome = REPLAY_LOCK_BUSY, w = r->first_writer;
    for (int i = 0; i < REPLAY_RING_WRITERS && outcome == REPLAY_LOCK_BUSY; i++) {
        w = (r->first_writer + i) % REPLAY_RING_WRITERS;
        outcome = replay_lock_try(&writers[w].mutex);
    }
    if (outcome == REPLAY_LOCK_BUSY && wait)
        outcome = replay_lock_block(&writers[w].mutex, REPLAY_RING_SLICE_MS);
    if (outcome == REPLAY_LOCK_OWNER_DIED) {
        replay_lock_repair(&writers[w].mutex);
        outcome = REPLAY_LOCK_TAKEN;
    }
    if (outcome == REPLAY_LOCK_TAKEN)
        claim->writer = w;
    return outcome == REPLAY_LOCK_TAKEN ? REPLAY_RING_DONE
           : outcome == REPLAY_LOCK_BUSY ? REPLAY_RING_BUSY
                                         : REPLAY_RING_BROKEN;
}

static void release_writer(replay_ring *r, replay_ring_claim *claim)
{
    pthread_mutex_unlock(&r->memory->writers[claim->writer].mutex);
    claim->writer = -1;
}

/* Under the lock: does writer `w` live? Drops its claim if not. */
static int is_alive(replay_ring *r, int w)
{
    pthread_mutex_t *mutex = &r->memory->writers[w].mutex;
    int outcome = replay_lock_try(mutex);
    if (outcome == REPLAY_LOCK_BUSY || outcome == REPLAY_LOCK_BROKEN)
        return 1;
    if (outcome == REPLAY_LOCK_OWNER_DIED)
        replay_lock_repair(mutex);
    ring_drop_claim(r, w);
    pthread_mutex_unlock(mutex);
    return 0;
}

/* Under the lock: a live writer that has not finished a row which tickets before `end` overwrite, or -1. */
static int find_unfinished(replay_ring *r, int64_t end)
{
    const memory *m = r->memory;
    for (uint64_t left = m->claimed; left; left &= left - 1) {
        int w = __builtin_ctzll(left);
        if (m->claims[w].first < end - r->capacity && is_alive(r, w))
            return w;
    }
    return -1;
}

/* Until writer `w` has finished, or died; or for a while. */
static int wait_for(replay_ring *r, int w, int wait)
{
    pthread_mutex_t *mutex = &r->memory->writers[w].mutex;
    int outcome = wait ? replay_lock_block(mutex, REPLAY_RING_SLICE_MS) : replay_lock_spin(mutex);
    if (outcome == REPLAY_LOCK_BUSY)
        return REPLAY_RING_BUSY;
    if (outcome == REPLAY_LOCK_BROKEN)
        return REPLAY_RING_BROKEN;
    if (outcome == REPLAY_LOCK_OWNER_DIED)
        replay_lock_repair(mutex); /* its claim still stands, and is dropped when found */
    pthread_mutex_unlock(mutex);
    return REPLAY_RING_DONE;
}

/* ---- rows ---- */

/* Under the lock. The order counts, if this process dies between two stores: tickets are used up before a row is lost,
 * and no leaf is positive when a state becomes odd. */
static void claim_slots(replay_ring *r, const replay_ring_claim *claim)
{
    memory *m = r->memory;
    int64_t indices[CHUNK], end = claim->first + claim->rows;
    static const double nothing[CHUNK];
    m->claims[claim->writer] = (claimed){claim->first, claim->rows};
    m->claimed |= UINT64_C(1) << claim->writer;
    atomic_store_explicit(&m->added, end, memory_order_release);
    atomic_signal_fence(memory_order_seq_cst);
    for (int64_t ticket = claim->first; ticket < end;) {
        int64_t n = 0;
        for (; n < CHUNK && ticket < end; ticket++) {
            indices[n] = slot_of(r, ticket);
            n += replay_tree_get(&r->tree, indices[n]) > 0;
        }
        replay_tree_set(&r->tree, indices, nothing, n);
    }
    for (int64_t ticket = claim->first; ticket < end; ticket++)
        atomic_store_explicit(state_of(r, slot_of(r, ticket)), complete(ticket) + 1, memory_order_release);
}

int replay_ring_begin(replay_ring *r, replay_ring_claim *claim, int wait)
{
    int result, unfinished;
    if (claim->writer < 0 && (result = take_writer(r, claim, wait)))
        return result;
    for (;;) {
        if ((result = ring_lock(r, wait)))
            return result;
        if (r->memory->claimed & UINT64_C(1) << claim->writer) /* of a dead one who had this mutex */
            ring_drop_claim(r, claim->writer);
        claim->first = replay_ring_added(r);
        unfinished = find_unfinished(r, claim->first + claim->rows);
        if (unfinished < 0)
            claim_slots(r, claim);
        ring_unlock(r);
        if (unfinished < 0)
            return REPLAY_RING_DONE;
        if ((result = wait_for(r, unfinished, wait)))
            return result;
    }
}

void replay_ring_abandon(replay_ring *r, replay_ring_claim *claim)
{
    if (claim->writer >= 0)
        release_writer(r, claim);
}

void replay_ring_write(replay_ring *r, const replay_ring_claim *claim, const char *const *columns, int64_t from)
{
    atomic_thread_fence(memory_order_release); /* odd states come before what is written now */
    int64_t slot = slot_of(r, claim->first), until_end = r->capacity - slot;
    int64_t before = claim->rows < until_end ? claim->rows : until_end;
    replay_rows_write(&r->rows, slot, before, columns, from, complete(claim->first));
    replay_rows_write(&r->rows, 0, claim->rows - before, columns, from + before, complete(claim->first + before));
}

int replay_ring_finish(replay_ring *r, replay_ring_claim *claim, const double *priorities, const double *leaves,
                       int wait)
{
    int64_t indices[CHUNK];
    double values[CHUNK];
    int result = ring_lock(r, wait);
    if (result)
        return result;
    for (int64_t i = 0; priorities && i < claim->rows; i++)
        ring_raise_maximum(r, priorities[i], leaves[i]);
    for (int64_t i = 0; i < claim->rows;) {
        int64_t n = 0;
        for (; n < CHUNK && i < claim->rows; i++) {
            int64_t ticket = claim->first + i;
            indices[n] = slot_of(r, ticket);
            values[n] = leaves ? leaves[i] : r->memory->max_leaf;
            n += atomic_load_explicit(state_of(r, indices[n]), memory_order_relaxed) == complete(ticket);
        }
        replay_tree_set(&r->tree, indices, values, n);
    }
    r->memory->claimed &= ~(UINT64_C(1) << claim->writer);
    ring_unlock(r);
    release_writer(r, claim);
    return REPLAY_RING_DONE;
}
