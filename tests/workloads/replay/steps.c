/* A process that uses a ring is stopped after every instruction: what if it had been killed there?
 *
 *     steps PREDECESSOR    0: none; 1: another one died between two steps before; 2: one with the same sign of life;
 *                          3: one that also held the lock, and left wrong sums
 *
 * Whenever the memory has changed, a copy of it is made, in which the kernel's news of the death is written into the
 * mutexes that the process holds, and others go on with that copy: all promises must be kept. Status 0 if they are,
 * 77 where no process may be stopped in this way.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "native/ring.h"
#include "native/ring_memory.h"

#define CAPACITY 5
#define MOST 5 /* rows at a time */
#define FIELDS 2
#define NOT_POSSIBLE 77

static const size_t BYTES[FIELDS] = {8, 72};

typedef struct columns {
    int64_t number[MOST], made[MOST][9];
} columns;

/* What the process saw come back, beside the ring. */
typedef struct board {
    _Atomic int returned; /* tickets before this, except for those of a predecessor */
} board;

static board *seen;
static size_t bytes;
static int64_t first_ticket; /* that is not a predecessor's */
static long step;

#define CHECK(fact) ((fact) ? (void)0 : fail(#fact, __LINE__))

static void fail(const char *fact, int line)
{
    fprintf(stderr, "steps.c:%d: after instruction %ld, with %d rows returned, not so: %s\n", line, step,
            seen->returned, fact);
    exit(1);
}

static void *shared(size_t n)
{
    void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        exit(2);
    return at;
}

static void view(replay_ring *r, void *memory, int writer)
{
    CHECK(replay_ring_view(r, memory, CAPACITY, BYTES, FIELDS, 2, 0) == 0);
    r->first_writer = writer;
}

static void point(columns *c, char **pointers)
{
    pointers[0] = (char *)c->number;
    pointers[1] = (char *)c->made;
}

static void make_row(columns *c, int at, int64_t number)
{
    c->number[at] = number;
    for (int w = 0; w < 9; w++)
        c->made[at][w] = number * 1000003 + w;
}

static int is_whole(const columns *c, int at)
{
    columns expected;
    make_row(&expected, at, c->number[at]);
    return memcmp(c->made[at], expected.made[at], sizeof expected.made[at]) == 0;
}

/* ---- what is done to a ring ---- */

/* The first ticket. All that could be waited for has died: a wait that ends without success is one for ever. */
static int64_t insert(replay_ring *r, int64_t rows, int dies)
{
    columns c;
    char *pointers[FIELDS];
    replay_ring_claim claim = {.rows = rows, .writer = -1};
    point(&c, pointers);
    for (int i = 0; i < rows; i++)
        make_row(&c, i, 10 * replay_ring_added(r) + i);
    CHECK(replay_ring_begin(r, &claim, 1) == REPLAY_RING_DONE);
    if (dies)
        return claim.first;
    replay_ring_write(r, &claim, (const char *const *)pointers, 0);
    CHECK(replay_ring_finish(r, &claim, NULL, NULL, 1) == REPLAY_RING_DONE);
    return claim.first;
}

/* Nobody else is there: a row that changed meanwhile would change for ever. */
static int draw(replay_ring *r, int64_t n)
{
    columns c;
    char *pointers[FIELDS];
    double leaves[MOST], uniforms[MOST] = {0.1, 0.95, 0.35, 0.55, 0.75};
    int64_t indices[MOST], generations[MOST] = {-1, -1, -1, -1, -1};
    point(&c, pointers);
    replay_ring_batch batch = {.n = n, .uniforms = uniforms, .by_buffer = 1, .columns = pointers, .indices = indices};
    batch.generations = generations;
    batch.leaves = leaves;
    batch.smallest = (double)INFINITY;
    int result = replay_ring_sample(r, &batch, 1);
    CHECK(result == REPLAY_RING_DONE || result == REPLAY_RING_EMPTY);
    for (int i = 0; i < n && result == REPLAY_RING_DONE; i++) {
        CHECK(is_whole(&c, i) && leaves[i] >= batch.smallest && batch.smallest > 0);
        CHECK(generations[i] % CAPACITY == indices[i] && generations[i] < replay_ring_added(r));
    }
    return result;
}

static int64_t update(replay_ring *r, const int64_t *indices, const int64_t *generations, int64_t n)
{
    double priorities[MOST] = {2, 2, 2, 2, 2}, leaves[MOST];
    CHECK(replay_ring_leaves(r, priorities, leaves, n) == n);
    replay_ring_change change = {.n = n, .indices = indices, .priorities = priorities, .leaves = leaves};
    change.generations = generations;
    CHECK(replay_ring_update(r, &change, 1) == REPLAY_RING_DONE);
    return change.kept;
}

static int64_t update_all(replay_ring *r)
{
    const int64_t indices[CAPACITY] = {0, 1, 2, 3, 4};
    int64_t added = replay_ring_added(r);
    return update(r, indices, NULL, added < CAPACITY ? added : CAPACITY);
}

/* The process that may be killed anywhere in this. */
static void live(replay_ring *r)
{
    const int64_t indices[2] = {1, 0};
    seen->returned = (int)insert(r, 2, 0) + 2;
    draw(r, 2);
    update(r, indices, NULL, 2);
    seen->returned = (int)insert(r, 3, 0) + 3;
    seen->returned = (int)insert(r, 4, 0) + 4; /* goes round the end of the ring */
}

/* ---- what must be so after its death ---- */

static void let_die(replay_ring *r, unsigned thread)
{
    for (int w = -1; w < REPLAY_RING_WRITERS; w++) {
        unsigned *word = (unsigned *)(w < 0 ? &r->memory->lock : &r->memory->writers[w].mutex); /* its first member */
        if ((*word & FUTEX_TID_MASK) == thread)
            *word = FUTEX_OWNER_DIED;
    }
}

/* Rows whose insertion returned are there until the ring comes round, and get the priorities that they are given. */
static void check_rows(replay_ring *r)
{
    columns c;
    char *pointers[FIELDS];
    double leaves[CAPACITY];
    int64_t generations[CAPACITY], indices[CAPACITY], tickets[CAPACITY], n = 0;
    point(&c, pointers);
    replay_ring_content content = {.columns = pointers, .generations = generations, .leaves = leaves};
    CHECK(replay_ring_save(r, &content, 1) == REPLAY_RING_DONE);
    for (int i = 0; i < CAPACITY && i < content.added; i++)
        CHECK(generations[i] < 0 ? leaves[i] == 0 : is_whole(&c, i));
    for (int64_t t = first_ticket; t < seen->returned; t++)
        if (t >= content.added - CAPACITY) {
            CHECK(generations[t % CAPACITY] == t && leaves[t % CAPACITY] > 0);
            indices[n] = t % CAPACITY;
            tickets[n++] = t;
        }
    double total = replay_tree_total(&r->tree), least = replay_tree_min(&r->tree);
    replay_tree_rebuild(&r->tree);
    CHECK(total == replay_tree_total(&r->tree) && least == replay_tree_min(&r->tree));
    CHECK(update(r, indices, tickets, n) == n);
    CHECK(draw(r, MOST) == REPLAY_RING_DONE || n == 0);
    update_all(r);
    CHECK(draw(r, MOST) == REPLAY_RING_DONE || n == 0);
}

/* Others insert, and nobody is waited for. */
static void check_others_go_on(replay_ring *r)
{
    int64_t ticket = insert(r, 1, 0), index = ticket % CAPACITY;
    CHECK(update(r, &index, &ticket, 1) == 1);
    update_all(r);
    CHECK(draw(r, MOST) == REPLAY_RING_DONE);
    for (int i = 0; i < 3; i++)
        insert(r, 4, 0);
    CHECK(update_all(r) == CAPACITY && draw(r, MOST) == REPLAY_RING_DONE);
}

/* Steps through a process: how often the memory had changed. */
static int walk(pid_t process, void *memory, void *before, void *copy)
{
    int status, changes = 0;
    replay_ring r;
    waitpid(process, &status, 0);
    if (!WIFSTOPPED(status))
        exit(NOT_POSSIBLE);
    for (;; step++) {
        if (ptrace(PTRACE_SINGLESTEP, process, 0, 0))
            exit(NOT_POSSIBLE);
        waitpid(process, &status, 0);
        if (WIFEXITED(status))
            return WEXITSTATUS(status) == 0 ? changes : -1;
        if (memcmp(before, memory, bytes) == 0)
            continue;
        changes++;
        memcpy(before, memory, bytes);
        for (int what = 0; what < 3; what++) {
            memcpy(copy, before, bytes);
            view(&r, copy, what == 1 ? 3 : 40);
            let_die(&r, (unsigned)process);
            what ? check_others_go_on(&r) : check_rows(&r);
        }
    }
}

static pid_t start(void *memory, int writer, int dies)
{
    pid_t process = fork();
    if (process != 0)
        return process;
    replay_ring r;
    view(&r, memory, writer);
    if (dies) {
        insert(&r, 2, 1);
        if (dies == 2 && pthread_mutex_lock(replay_ring_lock(&r)) == 0)
            for (int level = 1; level < r.tree.levels; level++)
                *(float *)r.tree.sums[level] = 77;
        _exit(0);
    }
    if (ptrace(PTRACE_TRACEME, 0, 0, 0))
        _exit(1);
    raise(SIGSTOP);
    live(&r);
    _exit(0);
}

int main(int count, char **arguments)
{
    int predecessor = count > 1 ? atoi(arguments[1]) : 0;
    replay_ring r;
    bytes = replay_ring_bytes(CAPACITY, BYTES, FIELDS, 2, 0);
    void *memory = shared(bytes), *before = calloc(1, bytes), *copy = shared(bytes);
    seen = shared(sizeof *seen);
    view(&r, memory, 0);
    CHECK(replay_ring_create(&r, 0.6, 0.01) == 0);
    if (predecessor > 0) {
        waitpid(start(memory, predecessor == 2 ? 3 : 20, predecessor == 3 ? 2 : 1), NULL, 0);
        first_ticket = replay_ring_added(&r);
    }
    memcpy(before, memory, bytes);
    int changes = walk(start(memory, 3, 0), memory, before, copy);
    CHECK(changes > 100);
    printf("killed after each of %d changes in %ld instructions: every promise was kept\n", changes, step);
    return 0;
}
