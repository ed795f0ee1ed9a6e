/* What the files of the ring share, and nobody else sees. */
#ifndef REPLAY_RING_MEMORY_H
#define REPLAY_RING_MEMORY_H

#include <stdatomic.h>

#include "locks.h"
#include "ring.h"

#define LINE 64
#define CHUNK 256 /* rows that are claimed, drawn or updated at a time, with notes on the stack */

typedef struct claimed {
    int64_t first, rows;
} claimed;

typedef struct sign_of_life {
    _Alignas(LINE) pthread_mutex_t mutex;
} sign_of_life;

/* What comes before the tree and the slots. Each group has cache lines of its own. */
struct replay_ring_memory {
    _Alignas(LINE) pthread_mutex_t lock;
    /* Guarded by the lock; what is atomic may be read without it. */
    _Alignas(LINE) _Atomic int64_t added;
    _Atomic double max_priority;
    double max_leaf;
    _Atomic int64_t repaired;
    uint64_t claimed; /* a bit for each writer whose claim stands */
    claimed claims[REPLAY_RING_WRITERS];
    _Atomic int has_torn; /* may slots differ from what tickets and claims say, as a writer died? Never again 0 */
    /* Guarded by nothing. */
    _Alignas(LINE) _Atomic int64_t joined;
    double alpha, eps;
    sign_of_life writers[REPLAY_RING_WRITERS];
};

typedef struct replay_ring_memory memory;

/* Takes the lock, and puts right what an owner who died left half done. DONE, BUSY or BROKEN. */
int ring_lock(replay_ring *r, int wait);

static inline void ring_unlock(replay_ring *r)
{
    pthread_mutex_unlock(&r->memory->lock);
}

/* Under the lock: a raw priority was given, whose leaf this is. */
void ring_raise_maximum(replay_ring *r, double priority, double leaf);

/* Everything that follows from leaves and the largest priority. */
void ring_rebuild(replay_ring *r);

static inline int64_t slot_of(const replay_ring *r, int64_t ticket)
{
    return ticket % r->capacity;
}

/* Under the lock: slots may differ from what tickets and claims say. */
static inline void ring_note_torn(replay_ring *r)
{
    atomic_store_explicit(&r->memory->has_torn, 1, memory_order_relaxed);
}

/* Under the lock: writer `w`, who has died, will never finish. In this order, as one may die, or fork, between. */
static inline void ring_drop_claim(replay_ring *r, int w)
{
    ring_note_torn(r);
    atomic_signal_fence(memory_order_seq_cst);
    r->memory->claimed &= ~(UINT64_C(1) << w);
}

static inline int ring_has_torn(const replay_ring *r)
{
    return atomic_load_explicit(&r->memory->has_torn, memory_order_relaxed);
}

/* Which ticket is the newest of each slot that was ever taken: slots before `next` were taken in this lap. */
typedef struct lap {
    int64_t first, next, capacity;
} lap;

static inline lap lap_of(const replay_ring *r, int64_t added)
{
    int64_t next = added % r->capacity;
    return (lap){.first = added - next, .next = next, .capacity = r->capacity};
}

static inline int64_t newest_ticket(lap now, int64_t slot)
{
    return now.first + slot - (slot < now.next ? 0 : now.capacity);
}

static inline replay_word *state_of(const replay_ring *r, int64_t slot)
{
    return replay_rows_slot(&r->rows, slot);
}

/* The state of a slot that holds the row of a ticket; one more while it is being written. */
static inline uint64_t complete(int64_t ticket)
{
    return 2 * ((uint64_t)ticket + 1);
}

static inline int is_complete(uint64_t state)
{
    return state != 0 && state % 2 == 0;
}

static inline int64_t ticket_of(uint64_t state)
{
    return (int64_t)(state / 2) - 1;
}

#endif
