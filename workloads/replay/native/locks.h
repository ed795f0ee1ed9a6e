/* Mutexes that survive the death of their owner: robust and shared between processes on Linux, plain elsewhere. */
#ifndef REPLAY_LOCKS_H
#define REPLAY_LOCKS_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

/* Spinning takes some tens of microseconds in all: longer than drawing a batch holds the lock, and no longer than it
 * takes to be woken. Whoever blocks also costs the holder, which then has to wake it: more than most calls take. */
#define REPLAY_LOCKS_TRIES 64
#define REPLAY_LOCKS_PAUSES 16 /* between tries, at most: each takes the lock's cache line from the holder */

/* ThreadSanitizer does not know that pthread_mutex_timedlock too can get the mutex of an owner who died. */
#if defined(__SANITIZE_THREAD__)
#define REPLAY_LOCKS_POLL 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define REPLAY_LOCKS_POLL 1
#endif
#endif
#ifndef __linux__
#define REPLAY_LOCKS_POLL 1
#endif

/* What taking a mutex came to. */
enum { REPLAY_LOCK_TAKEN, REPLAY_LOCK_OWNER_DIED, REPLAY_LOCK_BUSY, REPLAY_LOCK_BROKEN };

static inline void replay_lock_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static inline int replay_lock_create(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error)
        return error;
#ifdef __linux__
    error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (!error)
        error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
#endif
    if (!error)
        error = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return error;
}

static inline int replay_lock_outcome(int error)
{
    switch (error) {
    case 0:
        return REPLAY_LOCK_TAKEN;
#ifdef __linux__
    case EOWNERDEAD:
        return REPLAY_LOCK_OWNER_DIED; /* and taken; call replay_lock_repair */
#endif
    case EBUSY:
    case ETIMEDOUT:
        return REPLAY_LOCK_BUSY;
    default:
        return REPLAY_LOCK_BROKEN;
    }
}

static inline int replay_lock_try(pthread_mutex_t *mutex)
{
    return replay_lock_outcome(pthread_mutex_trylock(mutex));
}

static inline int replay_lock_spin(pthread_mutex_t *mutex)
{
    int outcome = replay_lock_try(mutex), pauses = 1;
    for (int i = 0; outcome == REPLAY_LOCK_BUSY && i < REPLAY_LOCKS_TRIES; i++) {
        for (int j = 0; j < pauses; j++)
            replay_lock_pause();
        pauses = pauses < REPLAY_LOCKS_PAUSES ? 2 * pauses : pauses;
        outcome = replay_lock_try(mutex);
    }
    return outcome;
}

/* Blocks for `ms` at most. */
static inline int replay_lock_block(pthread_mutex_t *mutex, long ms)
{
#ifdef REPLAY_LOCKS_POLL
    const struct timespec pause = {0, 50000};
    int outcome = replay_lock_try(mutex);
    for (long waited_us = 0; outcome == REPLAY_LOCK_BUSY && waited_us < 1000 * ms; waited_us += 50) {
        nanosleep(&pause, NULL);
        outcome = replay_lock_try(mutex);
    }
    return outcome;
#else
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += ms * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    return replay_lock_outcome(pthread_mutex_timedlock(mutex, &end));
#endif
}

static inline void replay_lock_repair(pthread_mutex_t *mutex)
{
#ifdef __linux__
    pthread_mutex_consistent(mutex);
#else
    (void)mutex;
#endif
}

#endif
