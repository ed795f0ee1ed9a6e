/* The ring alone, without Python: many threads, or processes that are killed, and rows that tell whether they are whole.
 *
 *     driver threads SECONDS SEED    writers, readers, updaters, savers; some writers die between two steps
 *     driver killed SECONDS SEED     writers and readers are processes, killed at random
 *
 * Every row is made of its writer's number and its own, and ends with a checksum. Readers look at every row they
 * are given. At the end: is the tree what its leaves make it, and is every row there whose writer saw it stored? It
 * ends with status 0 if all is as promised; scripts/check-sanitizers compiles it in several ways.
 */
#define _GNU_SOURCE
#include "native/ring.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIELDS 5
#define BATCH 64
#define WRITERS 6
#define ROWS 40 /* of one insertion, at most */

static const size_t BYTES[FIELDS] = {4, 4, 1, 44, 200}; /* writer, number, flag, and what is made of them */

enum { WRITER, NUMBER, FLAG, SMALL, LARGE };

typedef struct columns {
    uint32_t writer[BATCH], number[BATCH];
    uint8_t flag[BATCH];
    uint32_t small[BATCH][11], large[BATCH][50];
} columns;

/* What processes tell each other, beside the ring. */
typedef struct board {
    _Atomic int stop;
    _Atomic uint32_t stored[WRITERS]; /* rows whose insertion returned */
    _Atomic int64_t inserted, drawn, redrawn, updated, saved, died;
    char name[64];
} board;

static board *shared;
static void *memory;
static int64_t capacity;
static uint64_t seed;

#define CHECK(fact) ((fact) ? (void)0 : fail(#fact, __LINE__))

static void fail(const char *fact, int line)
{
    fprintf(stderr, "driver.c:%d: not so: %s\n", line, fact);
    kill(0, SIGTERM); /* the other processes, too: main made a group of them */
    _exit(1);
}

static uint64_t next(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state)
{
    return (double)(next(state) >> 11) * 0x1p-53;
}

static void point(columns *c, char **pointers)
{
    pointers[WRITER] = (char *)c->writer;
    pointers[NUMBER] = (char *)c->number;
    pointers[FLAG] = (char *)c->flag;
    pointers[SMALL] = (char *)c->small;
    pointers[LARGE] = (char *)c->large;
}

static uint32_t mixed(uint32_t writer, uint32_t number, uint32_t word)
{
    uint32_t x = writer * 0x9E3779B1u + number * 0x85EBCA77u + word * 0xC2B2AE3Du;
    return x ^ (x >> 15);
}

static void make_row(columns *c, int at, uint32_t writer, uint32_t number)
{
    c->writer[at] = writer;
    c->number[at] = number;
    c->flag[at] = (uint8_t)mixed(writer, number, 99);
    for (uint32_t w = 0; w < 11; w++)
        c->small[at][w] = mixed(writer, number, w);
    for (uint32_t w = 0; w < 50; w++)
        c->large[at][w] = mixed(writer, number, 11 + w);
}

static int is_whole(const columns *c, int at)
{
    columns expected;
    make_row(&expected, at, c->writer[at], c->number[at]);
    return c->writer[at] < WRITERS && c->flag[at] == expected.flag[at] &&
           memcmp(c->small[at], expected.small[at], sizeof expected.small[at]) == 0 &&
           memcmp(c->large[at], expected.large[at], sizeof expected.large[at]) == 0;
}

static void view(replay_ring *r)
{
    CHECK(replay_ring_view(r, memory, capacity, BYTES, FIELDS, 8, 0) == 0);
}

/* ---- what threads and processes do ---- */

/* Inserts some rows. `dies` 1: after the first step, 2: after the second. */
static void insert(replay_ring *r, uint32_t writer, uint64_t *random, int dies)
{
    columns c;
    char *pointers[FIELDS];
    double priorities[ROWS], leaves[ROWS];
    replay_ring_claim claim = {.writer = -1};
    int64_t most = capacity < ROWS ? capacity : ROWS;
    claim.rows = 1 + (int64_t)(next(random) % (uint64_t)most);
    uint32_t first = shared->stored[writer];
    for (int i = 0; i < claim.rows; i++) {
        make_row(&c, i, writer, first + (uint32_t)i);
        priorities[i] = 0.1 + uniform(random);
    }
    point(&c, pointers);
    CHECK(replay_ring_leaves(r, priorities, leaves, claim.rows) == claim.rows);
    int is_raw = next(random) % 2 == 0, result;
    while ((result = replay_ring_begin(r, &claim, next(random) % 2 == 0)) == REPLAY_RING_BUSY)
        ;
    CHECK(result == REPLAY_RING_DONE);
    if (dies == 1)
        return;
    replay_ring_write(r, &claim, (const char *const *)pointers, 0);
    if (dies == 2)
        return;
    int64_t rows = claim.rows;
    while ((result = replay_ring_finish(r, &claim, is_raw ? priorities : NULL, is_raw ? leaves : NULL, 1)) ==
           REPLAY_RING_BUSY)
        ;
    CHECK(result == REPLAY_RING_DONE);
    shared->stored[writer] = first + (uint32_t)rows;
    shared->inserted += rows;
}

/* Draws a batch, looks at its rows, and gives them new priorities. */
static void draw(replay_ring *r, uint64_t *random)
{
    columns c;
    char *pointers[FIELDS];
    double uniforms[BATCH], leaves[BATCH], priorities[BATCH];
    int64_t indices[BATCH], generations[BATCH];
    point(&c, pointers);
    memset(generations, 0xFF, sizeof generations);
    replay_ring_batch batch = {.n = 1 + (int64_t)(next(random) % BATCH), .uniforms = uniforms, .columns = pointers};
    batch.stratified = next(random) % 2 == 0;
    batch.by_buffer = next(random) % 4 == 0;
    batch.indices = indices;
    batch.generations = generations;
    batch.leaves = leaves;
    batch.smallest = (double)INFINITY;
    for (int result = REPLAY_RING_CHANGED; result != REPLAY_RING_DONE;) {
        for (int i = 0; i < BATCH; i++)
            uniforms[i] = generations[i] < 0 ? uniform(random) : uniforms[i];
        shared->redrawn += batch.changed;
        batch.next = batch.changed = 0;
        while ((result = replay_ring_sample(r, &batch, next(random) % 2 == 0)) == REPLAY_RING_BUSY)
            ;
        CHECK(result >= 0);
        if (result == REPLAY_RING_EMPTY)
            return;
    }
    for (int i = 0; i < batch.n; i++) {
        CHECK(is_whole(&c, i));
        CHECK(indices[i] >= 0 && indices[i] < capacity && generations[i] % capacity == indices[i]);
        CHECK(generations[i] < replay_ring_added(r) && leaves[i] > 0);
        CHECK(!batch.by_buffer || batch.smallest <= leaves[i]);
        priorities[i] = next(random) % 8 ? uniform(random) : 0;
    }
    shared->drawn += batch.n;
    CHECK(replay_ring_leaves(r, priorities, leaves, batch.n) == batch.n);
    replay_ring_change change = {.n = batch.n, .indices = indices, .priorities = priorities, .leaves = leaves};
    change.generations = next(random) % 2 ? generations : NULL;
    int result;
    while ((result = replay_ring_update(r, &change, 1)) == REPLAY_RING_BUSY)
        ;
    CHECK(result == REPLAY_RING_DONE && change.kept <= change.n);
    shared->updated += change.kept;
}

typedef struct copy {
    uint32_t *writer, *number;
    replay_ring_content content;
    char *pointers[FIELDS];
} copy;

static void make_copy(copy *k)
{
    for (int f = 0; f < FIELDS; f++)
        k->pointers[f] = calloc((size_t)capacity, BYTES[f]);
    k->writer = (uint32_t *)k->pointers[WRITER];
    k->number = (uint32_t *)k->pointers[NUMBER];
    k->content.columns = k->pointers;
    k->content.generations = calloc((size_t)capacity, sizeof(int64_t));
    k->content.leaves = calloc((size_t)capacity, sizeof(double));
}

static void free_copy(copy *k)
{
    for (int f = 0; f < FIELDS; f++)
        free(k->pointers[f]);
    free(k->content.generations);
    free(k->content.leaves);
}

static void save(replay_ring *r)
{
    copy k;
    make_copy(&k);
    int result;
    while ((result = replay_ring_save(r, &k.content, 1)) == REPLAY_RING_BUSY)
        ;
    CHECK(result == REPLAY_RING_DONE);
    for (int64_t i = 0; i < capacity && i < k.content.added; i++) {
        columns c;
        memcpy(&c.writer[0], k.pointers[WRITER] + 4 * i, 4);
        memcpy(&c.number[0], k.pointers[NUMBER] + 4 * i, 4);
        memcpy(&c.flag[0], k.pointers[FLAG] + i, 1);
        memcpy(c.small[0], k.pointers[SMALL] + 44 * i, 44);
        memcpy(c.large[0], k.pointers[LARGE] + 200 * i, 200);
        CHECK(k.content.generations[i] < 0 ? k.content.leaves[i] == 0 : is_whole(&c, 0));
    }
    free_copy(&k);
    shared->saved++;
}

/* ---- at the end ---- */

/* Of each writer, the rows that are there are its last ones without a gap, up to the last one that it saw stored. Some
 * are there twice, if it was killed between the two and its successor began with the same numbers. Who dies as it takes
 * slots may leave what was there, to be overwritten a round late: that does not count. */
static void check_nothing_is_lost(replay_ring *r)
{
    copy k;
    make_copy(&k);
    CHECK(replay_ring_save(r, &k.content, 1) == REPLAY_RING_DONE);
    int64_t stored = k.content.added < capacity ? k.content.added : capacity;
    int64_t due = k.content.added - capacity;
    uint8_t *is_there = calloc((size_t)capacity, 1);
    for (uint32_t w = 0; w < WRITERS; w++) {
        uint32_t end = shared->stored[w], oldest = end;
        memset(is_there, 0, (size_t)capacity);
        for (int64_t i = 0; i < stored; i++)
            if (k.content.generations[i] >= 0 && k.content.generations[i] >= due && k.writer[i] == w &&
                k.number[i] < end) {
                CHECK(end - k.number[i] <= capacity);
                is_there[end - k.number[i] - 1] = 1;
                oldest = k.number[i] < oldest ? k.number[i] : oldest;
            }
        for (uint32_t back = 0; back < end - oldest; back++)
            CHECK(is_there[back]);
    }
    free(is_there);
    free_copy(&k);
}

static void check_tree(replay_ring *r)
{
    double total = replay_tree_total(&r->tree), least = replay_tree_min(&r->tree);
    replay_tree_rebuild(&r->tree);
    CHECK(total == replay_tree_total(&r->tree) && least == replay_tree_min(&r->tree));
}

static void finish(void)
{
    replay_ring r;
    view(&r);
    uint64_t random = seed;
    check_nothing_is_lost(&r);
    for (int i = 0; i < 2 * capacity; i++) /* slots of dead writers are taken over; nobody is waited for in vain */
        insert(&r, 0, &random, 0);
    for (int i = 0; i < 100; i++)
        draw(&r, &random);
    check_nothing_is_lost(&r);
    check_tree(&r);
    printf("%s: %lld rows inserted, %lld drawn, %lld drawn again as they changed, %lld updated, %lld saves, "
           "%lld deaths, %lld of them under the lock; every row was whole, none was lost\n",
           shared->name, (long long)shared->inserted, (long long)shared->drawn, (long long)shared->redrawn,
           (long long)shared->updated, (long long)shared->saved, (long long)shared->died,
           (long long)replay_ring_repaired(&r));
}

/* ---- threads ---- */

/* What a thread does, and which one it is. */
typedef struct role {
    int is_writer, number, dies;
} role;

static void *run_thread(void *argument)
{
    role *me = argument;
    uint64_t random = seed + 1000 * (uint64_t)me->number + (uint64_t)me->is_writer;
    replay_ring r;
    view(&r);
    r.first_writer = me->number;
    for (int i = 0; !shared->stop; i++) {
        if (me->is_writer && me->dies && i == 50) {
            insert(&r, (uint32_t)me->number, &random, me->dies); /* its mutex is not let go of: it has died */
            shared->died++;
            return NULL;
        }
        if (me->is_writer)
            insert(&r, (uint32_t)me->number, &random, 0);
        else
            draw(&r, &random);
        if (!me->is_writer && i % 200 == 0)
            save(&r);
    }
    return NULL;
}

static void *die_with_the_lock(void *argument)
{
    (void)argument;
    replay_ring r;
    view(&r);
    CHECK(pthread_mutex_lock(replay_ring_lock(&r)) == 0);
    shared->died++;
    return NULL;
}

static void run_threads(double seconds)
{
    enum { READERS = 3 };
    pthread_t threads[WRITERS + READERS], dead;
    role roles[WRITERS + READERS];
    for (int i = 0; i < WRITERS + READERS; i++) {
        roles[i] = (role){i < WRITERS, i < WRITERS ? i : i - WRITERS, i < 2 ? 0 : i < 4 ? 1 : 2};
        CHECK(pthread_create(&threads[i], NULL, run_thread, &roles[i]) == 0);
    }
    for (double slept = 0; slept < seconds; slept += 0.1) {
        usleep(100000);
        CHECK(pthread_create(&dead, NULL, die_with_the_lock, NULL) == 0);
        CHECK(pthread_join(dead, NULL) == 0);
    }
    shared->stop = 1;
    for (int i = 0; i < WRITERS + READERS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

/* ---- processes ---- */

static pid_t start(int number, uint64_t random)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child > 0)
        return child;
    replay_ring r;
    view(&r);
    r.first_writer = number;
    for (;;) {
        if (number < WRITERS)
            insert(&r, (uint32_t)number, &random, 0);
        else
            draw(&r, &random);
    }
}

static void end(pid_t child)
{
    int status;
    kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    shared->died++;
}

/* Rounds: some processes die and are replaced, then all die, and what they left is looked at. */
static void run_processes(double seconds)
{
    enum { PROCESSES = WRITERS + 2, REPLACED = 8 };
    pid_t children[PROCESSES];
    uint64_t random = seed;
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (int i = 0; i < PROCESSES; i++)
            children[i] = start(i, next(&random));
        for (int i = 0; i < REPLACED; i++) {
            usleep((useconds_t)(next(&random) % 3000));
            int victim = (int)(next(&random) % PROCESSES);
            end(children[victim]);
            children[victim] = start(victim, next(&random));
        }
        for (int i = 0; i < PROCESSES; i++)
            end(children[i]);
        replay_ring r;
        view(&r);
        check_nothing_is_lost(&r);
        check_tree(&r);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begin.tv_sec) + 1e-9 * (double)(now.tv_nsec - begin.tv_nsec) < seconds);
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fprintf(stderr, "usage: driver threads|killed SECONDS SEED\n");
        return 2;
    }
    setpgid(0, 0);
    double seconds = atof(arguments[2]) / 3;
    seed = strtoull(arguments[3], NULL, 10);
    int are_threads = strcmp(arguments[1], "threads") == 0;
    const int64_t capacities[] = {1, 61, 1500};
    for (int i = 0; i < 3; i++) {
        capacity = capacities[i];
        size_t bytes = replay_ring_bytes(capacity, BYTES, FIELDS, 8, 0);
        shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(shared != MAP_FAILED && memory != MAP_FAILED);
        snprintf(shared->name, sizeof shared->name, "%s, capacity %lld", arguments[1], (long long)capacity);
        replay_ring r;
        view(&r);
        CHECK(replay_ring_create(&r, 0.6, 0.01) == 0);
        if (are_threads)
            run_threads(seconds);
        else
            run_processes(seconds);
        finish();
        munmap(memory, bytes);
        munmap(shared, sizeof *shared);
    }
    return 0;
}
