/* Progress counters in shared memory, with ordered stores, spinning and blocking.
 *
 * A board is an array of lines in memory that several processes map. Each line has one writer, who
 * advances a 32-bit counter; anyone may wait until a line's counter has reached a target. What the
 * writer stored before advancing is visible to whoever saw the advance (release and acquire), on
 * every architecture. Counters wrap around; targets are compared by signed distance, so a waiter may
 * be up to 2^31 steps behind.
 *
 * Waiting: look; spin for a bounded time learnt from recent waits; announce that we sleep, fence, look
 * again, sleep on a futex (where there is none: nap). A writer fences before it looks for sleepers, so
 * either it sees the announcement or the sleeper sees the counter.
 *
 * Nobody spins for a writer that was last seen on the same processor: it could not run meanwhile. When
 * others want processors, the scheduler puts waiter and writer together, and this is what costs: such a
 * pair that spins takes milliseconds for a step of microseconds. Where each has a processor, spinning
 * pays, whoever else wants it.
 */

#define _GNU_SOURCE /* sched_getcpu */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#ifdef __linux__
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Two cache lines: neighbouring lines are often fetched in pairs. */
#define LINE_BYTES 128
#define SPIN_MIN_NS 20000LL
#define SPIN_MAX_NS 1000000LL
/* A wait this long was not worth spinning for: a wake-up costs a tenth of it at most. */
#define WAIT_LONG_NS 2000000LL
/* 50 to 100 us, far below the interpreter's switch interval of 5 ms: no other thread would run sooner. */
#define GIL_HELD_SPINS 2048

typedef struct {
    _Atomic uint32_t counter;
    _Atomic uint32_t sleepers;
    _Atomic uint32_t processor; /* where the writer last advanced, from 1; 0: not known */
    _Atomic uint32_t aborted; /* of line 0 only: the whole board is being given up */
} Line;

typedef struct {
    PyObject_HEAD
    Py_buffer memory;
    Py_ssize_t lines;
    bool spin;
    bool threads;
    _Atomic int64_t *usual_ns; /* per line: moving average of recent waits on it */
} Board;

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

static inline Line *line_at(Board *self, Py_ssize_t index)
{
    return (Line *)((char *)self->memory.buf + index * LINE_BYTES);
}

static inline bool reached(Line *line, uint32_t target)
{
    return (int32_t)(atomic_load_explicit(&line->counter, memory_order_acquire) - target) >= 0;
}

static inline bool aborted(Board *self)
{
    return atomic_load_explicit(&line_at(self, 0)->aborted, memory_order_acquire) != 0;
}

/* The processor of this thread, from 1; 0 where asking takes long. */
static inline uint32_t processor(void)
{
#ifdef __linux__
    return (uint32_t)(sched_getcpu() + 1);
#else
    return 0;
#endif
}

/* Whether spinning here would keep the writer of `line` from running. */
static inline bool in_its_way(Line *line)
{
    uint32_t there = atomic_load_explicit(&line->processor, memory_order_relaxed);
    return there != 0 && there == processor();
}

static void wake(Line *line)
{
#ifdef __linux__
    syscall(SYS_futex, &line->counter, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
#else
    (void)line;
#endif
}

/* Sleep until the counter of `line` is no longer `seen`, it is woken, or `timeout_ns` has passed. */
static void sleep_on(Line *line, uint32_t seen, int64_t timeout_ns)
{
#ifdef __linux__
    struct timespec limit = {timeout_ns / 1000000000LL, timeout_ns % 1000000000LL};
    syscall(SYS_futex, &line->counter, FUTEX_WAIT, seen, &limit, NULL, 0);
#else
    (void)line;
    (void)seen;
    struct timespec nap = {0, timeout_ns < 100000 ? timeout_ns : 100000};
    nanosleep(&nap, NULL);
#endif
}

static int board_init(Board *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"memory", "lines", "spin", "threads", NULL};
    int spin = 1, threads = 0;
    Py_ssize_t lines = 0;
    if (self->memory.buf != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a board is initialised once");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "w*np|p:Board", names, &self->memory, &lines, &spin, &threads)) {
        self->memory.buf = NULL;
        return -1;
    }
    if (lines < 1 || lines > self->memory.len / LINE_BYTES || (uintptr_t)self->memory.buf % sizeof(uint32_t) != 0) {
        PyErr_Format(PyExc_ValueError, "a board of %zd lines needs %d aligned bytes for each, not %zd in all",
                     lines, LINE_BYTES, self->memory.len);
        PyBuffer_Release(&self->memory);
        self->memory.buf = NULL;
        return -1;
    }
    self->lines = lines;
    self->spin = spin != 0;
    self->threads = threads != 0;
    self->usual_ns = PyMem_Calloc((size_t)lines, sizeof(int64_t));
    if (self->usual_ns == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void board_dealloc(Board *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->memory.buf != NULL)
        PyBuffer_Release(&self->memory);
    PyMem_Free(self->usual_ns);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static Line *line_of(Board *self, PyObject *index)
{
    Py_ssize_t i = PyLong_AsSsize_t(index);
    if (i == -1 && PyErr_Occurred())
        return NULL;
    if (i < 0 || i >= self->lines) {
        PyErr_Format(PyExc_IndexError, "line %zd of a board of %zd", i, self->lines);
        return NULL;
    }
    return line_at(self, i);
}

/* Store the counter, then wake whoever sleeps; a seen advance needs no system call. */
static inline void set_counter(Line *line, uint32_t value)
{
    atomic_store_explicit(&line->processor, processor(), memory_order_relaxed);
    atomic_store_explicit(&line->counter, value, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&line->sleepers, memory_order_relaxed) != 0)
        wake(line);
}

static PyObject *board_publish(Board *self, PyObject *index)
{
    Line *line = line_of(self, index);
    if (line == NULL)
        return NULL;
    /* One writer a line: a load and a store, no locked addition. */
    set_counter(line, atomic_load_explicit(&line->counter, memory_order_relaxed) + 1);
    Py_RETURN_NONE;
}

static PyObject *board_advance_to(Board *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "advance_to(line, value)");
        return NULL;
    }
    Line *line = line_of(self, args[0]);
    if (line == NULL)
        return NULL;
    uint32_t value = (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    if (PyErr_Occurred())
        return NULL;
    if (!reached(line, value))
        set_counter(line, value);
    Py_RETURN_NONE;
}

/* What came of a wait. */
enum { REACHED = 0, TIMED_OUT = 1, ABORTED = 2 };

static int wait_for(Board *self, Line *line, uint32_t target, int64_t spin_ns, int64_t timeout_ns, int64_t start)
{
    int64_t end = start + timeout_ns;
    if (spin_ns > 0) {
        int64_t spin_end = start + (spin_ns < timeout_ns ? spin_ns : timeout_ns);
        do {
            for (int i = 0; i < 64; i++) {
                if (reached(line, target))
                    return REACHED;
                relax();
            }
            if (aborted(self))
                return ABORTED;
        } while (now_ns() < spin_end && !in_its_way(line));
    }
    for (;;) {
        int result = -1;
        atomic_fetch_add_explicit(&line->sleepers, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        uint32_t seen = atomic_load_explicit(&line->counter, memory_order_acquire);
        int64_t left = end - now_ns();
        if ((int32_t)(seen - target) >= 0)
            result = REACHED;
        else if (aborted(self))
            result = ABORTED;
        else if (left <= 0)
            result = TIMED_OUT;
        else
            sleep_on(line, seen, left);
        atomic_fetch_sub_explicit(&line->sleepers, 1, memory_order_relaxed);
        if (result >= 0)
            return result;
    }
}

static PyObject *board_wait(Board *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "wait(line, target, timeout_s)");
        return NULL;
    }
    Line *line = line_of(self, args[0]);
    if (line == NULL)
        return NULL;
    uint32_t target = (uint32_t)PyLong_AsUnsignedLongMask(args[1]);
    double timeout_s = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred())
        return NULL;
    if (!(timeout_s >= 0.0 && timeout_s <= 86400.0)) {
        PyErr_SetString(PyExc_ValueError, "timeout_s must be from 0 to 86400 seconds");
        return NULL;
    }
    if (reached(line, target))
        return PyLong_FromLong(REACHED);

    /* The answer is often a moment away: not worth letting go of the interpreter, unless a thread of this
     * process must give it. */
    bool spin = self->spin && !in_its_way(line);
    if (spin && !self->threads)
        for (int i = 0; i < GIL_HELD_SPINS; i++) {
            relax();
            if (reached(line, target))
                return PyLong_FromLong(REACHED);
        }

    Py_ssize_t which = ((char *)line - (char *)self->memory.buf) / LINE_BYTES;
    int64_t usual_ns = atomic_load_explicit(&self->usual_ns[which], memory_order_relaxed);
    int64_t spin_ns = 0;
    if (spin) {
        spin_ns = usual_ns > WAIT_LONG_NS ? SPIN_MIN_NS : 2 * usual_ns + SPIN_MIN_NS;
        if (spin_ns > SPIN_MAX_NS)
            spin_ns = SPIN_MAX_NS;
    }
    int64_t timeout_ns = (int64_t)(timeout_s * 1e9);
    int64_t start = now_ns();
    int result;
    Py_BEGIN_ALLOW_THREADS
    result = wait_for(self, line, target, spin_ns, timeout_ns, start);
    Py_END_ALLOW_THREADS
    /* Capped, so that one long pause (nothing to do between two advances) does not unlearn the rest. */
    int64_t waited_ns = now_ns() - start;
    int64_t sample_ns = waited_ns < 2 * WAIT_LONG_NS ? waited_ns : 2 * WAIT_LONG_NS;
    atomic_store_explicit(&self->usual_ns[which], usual_ns + (sample_ns - usual_ns) / 8, memory_order_relaxed);
    return PyLong_FromLong(result);
}

static bool is_open(Board *self)
{
    if (self->lines < 1)
        PyErr_SetString(PyExc_RuntimeError, "the board was not initialised");
    return self->lines >= 1;
}

static PyObject *board_abort(Board *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_open(self))
        return NULL;
    atomic_store_explicit(&line_at(self, 0)->aborted, 1, memory_order_seq_cst);
    for (Py_ssize_t i = 0; i < self->lines; i++)
        wake(line_at(self, i));
    Py_RETURN_NONE;
}

static PyObject *board_aborted(Board *self, PyObject *Py_UNUSED(ignored))
{
    if (!is_open(self))
        return NULL;
    return PyBool_FromLong(aborted(self));
}

static PyMethodDef board_methods[] = {
    {"publish", (PyCFunction)board_publish, METH_O, "publish(line): advance the counter of a line, wake its sleepers."},
    {"advance_to", (PyCFunction)(void (*)(void))board_advance_to, METH_FASTCALL,
     "advance_to(line, value): advance the counter of a line to value, wake its sleepers; nothing if it is there."},
    {"wait", (PyCFunction)(void (*)(void))board_wait, METH_FASTCALL,
     "wait(line, target, timeout_s): 0 once the counter has reached target, 1 after the timeout, 2 if aborted."},
    {"abort", (PyCFunction)board_abort, METH_NOARGS, "Make every present and later wait return 2."},
    {"aborted", (PyCFunction)board_aborted, METH_NOARGS, "Whether the board was given up."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot board_slots[] = {
    {Py_tp_init, board_init},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_dealloc, board_dealloc},
    {Py_tp_methods, board_methods},
    {Py_tp_doc, "Board(memory, lines, spin, threads=False): progress counters in shared, zeroed memory; threads: those "
                "who wait are threads of one process."},
    {0, NULL},
};

static PyType_Spec board_spec = {
    .name = "runtimes.reactor._native.Board",
    .basicsize = sizeof(Board),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = board_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&board_spec);
    if (type == NULL)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Board", type);
    Py_DECREF(type);
    if (failed < 0)
        return -1;
    return PyModule_AddIntConstant(module, "LINE_BYTES", LINE_BYTES);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "Progress counters in shared memory.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
