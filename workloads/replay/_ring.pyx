# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""Binding of native/ring.c: `NativeRing`, which does what `NumpyRing` does, to the same bits.

What is contiguous and of the right dtype is handed on as it is; for anything else the slower paths in Python make
it so, or say what is wrong. A lock that is not had at once is waited for without the GIL, and Ctrl-C ends that wait.
"""

from cpython.buffer cimport PyBUF_ND, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.errno cimport errno
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset
from posix.unistd cimport close, getpid

import os

import numpy

from workloads.replay.content import Content
from workloads.replay.fields import columns_of, outputs_of
from workloads.replay.importance import checked_priorities, leaves_of
from workloads.replay.tree_arguments import value_not_allowed
from workloads.replay.ring_arguments import DRAWN, changed_too_often, nothing_to_draw, update_arguments

cdef extern from "native/memory.h" nogil:
    void *replay_memory_new(size_t bytes)
    void *replay_memory_of(int descriptor, size_t bytes)
    void replay_memory_free(void *memory, size_t bytes)

cdef extern from "native/tree.h" nogil:
    ctypedef struct replay_tree:
        double limit

cdef extern from "native/power.h" nogil:
    void replay_power(const double *base, double exponent, double *made, int64_t n)

cdef extern from "native/rows.h" nogil:
    enum: REPLAY_ROWS_FIELDS

cdef extern from "native/ring.h" nogil:
    enum: REPLAY_RING_CLAIM
    enum: REPLAY_RING_WRITERS
    enum: REPLAY_RING_DONE
    enum: REPLAY_RING_BUSY
    enum: REPLAY_RING_EMPTY
    enum: REPLAY_RING_CHANGED

    ctypedef struct replay_ring:
        int64_t capacity
        int first_writer
        replay_tree tree

    ctypedef struct replay_ring_claim:
        int64_t first
        int64_t rows
        int writer

    ctypedef struct replay_ring_batch:
        int64_t n
        const double *uniforms
        int stratified
        int by_buffer
        char **columns
        int64_t *indices
        int64_t *generations
        double *leaves
        double smallest
        int64_t next
        int64_t changed

    ctypedef struct replay_ring_change:
        int64_t n
        const int64_t *indices
        const int64_t *generations
        const double *priorities
        const double *leaves
        int64_t next
        int64_t kept

    ctypedef struct replay_ring_content:
        char **columns
        int64_t *generations
        double *leaves
        int64_t added
        int64_t joined
        double max_priority

    size_t replay_ring_bytes(int64_t capacity, const size_t *field_bytes, int fields, int fan_out, int is_double)
    int replay_ring_view(replay_ring *r, void *memory, int64_t capacity, const size_t *field_bytes, int fields,
                         int fan_out, int is_double)
    int replay_ring_create(replay_ring *r, double alpha, double eps)
    int64_t replay_ring_join(replay_ring *r)
    int64_t replay_ring_joined(const replay_ring *r)
    int64_t replay_ring_repaired(const replay_ring *r)
    int replay_ring_after_fork(replay_ring *r)
    int64_t replay_ring_added(const replay_ring *r)
    double replay_ring_max_priority(const replay_ring *r)
    int64_t replay_ring_leaves(const replay_ring *r, const double *priorities, double *leaves, int64_t n)
    int replay_ring_begin(replay_ring *r, replay_ring_claim *claim, int wait)
    void replay_ring_abandon(replay_ring *r, replay_ring_claim *claim)
    void replay_ring_write(replay_ring *r, const replay_ring_claim *claim, const char **columns, int64_t rows)
    int replay_ring_finish(replay_ring *r, replay_ring_claim *claim, const double *priorities, const double *leaves,
                           int wait)
    int replay_ring_sample(replay_ring *r, replay_ring_batch *batch, int wait)
    void replay_ring_prefetch(const replay_ring *r, const int64_t *indices, int64_t n)
    int replay_ring_update(replay_ring *r, replay_ring_change *change, int wait)
    int replay_ring_save(replay_ring *r, replay_ring_content *content, int wait)
    void replay_ring_restore(replay_ring *r, const replay_ring_content *content)

# Copying this much takes about 0.1 ms: from there on the GIL is let go, which costs others some microseconds.
cdef enum:
    LONG_BYTES = 1 << 19

cdef object MOST_BYTES = 1 << 62

cdef object ndarray = numpy.ndarray
cdef object empty = numpy.empty
cdef object generic = numpy.generic
cdef object boolean = numpy.dtype(numpy.bool_)
cdef object int64 = numpy.dtype(numpy.int64)
cdef object float32 = numpy.dtype(numpy.float32)
cdef object float64 = numpy.dtype(numpy.float64)


cdef int damaged() except -1:
    raise RuntimeError("A lock of the replay buffer failed in a way that it cannot: its memory is damaged.")


cdef void *address(object array, bint writeable) except NULL:
    """Of the items of a contiguous array, which stays where it is as long as it lives."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE if writeable else PyBUF_SIMPLE)
    PyBuffer_Release(&view)
    return view.buf


cdef int plain(object array, object dtype, int64_t rows, Py_buffer *view) except -1:
    """Is this a contiguous vector of `rows` such items (any number if negative)? Then `view` says where they are."""
    if type(array) is not ndarray or array.dtype is not dtype:
        return False
    try:
        PyObject_GetBuffer(array, view, PyBUF_ND)
    except (BufferError, ValueError):  # not contiguous
        return False
    PyBuffer_Release(view)  # its numbers stay
    return view.ndim == 1 and (rows < 0 or view.shape[0] == rows)


cdef class Numbers:
    """Memory for some numbers, until this goes."""

    cdef double *first

    def __cinit__(self, int64_t n):
        self.first = <double *>PyMem_RawMalloc(max(n, 1) * sizeof(double))
        if self.first == NULL:
            raise MemoryError(f"{n} numbers")

    def __dealloc__(self):
        PyMem_RawFree(self.first)


cdef class NativeRing:
    """A `workloads.replay.rings.Ring`, which says what each method does."""

    cdef replay_ring ring
    cdef void *memory
    cdef size_t bytes
    cdef readonly int descriptor
    cdef int64_t row_bytes
    cdef object settings
    cdef tuple fields, names, shapes, dtypes
    cdef dict outputs
    cdef double alpha, eps

    def __cinit__(self, settings, make_file, int descriptor):
        """A new ring, in memory of the file that `make_file(nbytes)` opens; or another process's, in `descriptor`."""
        cdef size_t field_bytes[REPLAY_ROWS_FIELDS]
        cdef int count = <int>len(settings.fields), fan_out = settings.fan_out
        cdef int is_double = settings.tree_dtype == float64
        cdef int64_t capacity = settings.capacity
        self.descriptor = descriptor
        self.settings = settings
        self.fields = settings.fields
        self.names = tuple(field.name for field in self.fields)
        self.shapes = tuple(field.shape for field in self.fields)
        self.dtypes = tuple(field.dtype for field in self.fields)
        self.outputs = {field.name: (field.shape, field.dtype) for field in self.fields} | DRAWN
        self.row_bytes = min(sum(field.nbytes for field in self.fields), MOST_BYTES)
        self.alpha, self.eps = settings.alpha, settings.eps
        if count > REPLAY_ROWS_FIELDS:
            raise ValueError(f"There are {count} fields, but a row has at most {REPLAY_ROWS_FIELDS}.")
        if self.row_bytes < MOST_BYTES:
            for i in range(count):
                field_bytes[i] = self.fields[i].nbytes
            self.bytes = replay_ring_bytes(capacity, field_bytes, count, fan_out, is_double)
        if self.bytes == 0:
            raise ValueError(f"There cannot be room for {capacity} rows: 2^40 are the most, and 2^62 bytes.")
        if make_file is not None:
            self.descriptor = make_file(self.bytes)
        if self.descriptor < 0:
            self.memory = replay_memory_new(self.bytes)
        else:
            self.memory = replay_memory_of(self.descriptor, self.bytes)
        if self.memory == NULL:
            raise MemoryError(f"{self.bytes} bytes for {capacity} rows: {os.strerror(errno)}. Lower the capacity.")
        replay_ring_view(&self.ring, self.memory, capacity, field_bytes, count, fan_out, is_double)
        self.ring.first_writer = getpid() % REPLAY_RING_WRITERS
        if descriptor < 0:
            made_locks(replay_ring_create(&self.ring, self.alpha, self.eps))
            leaves_of(numpy.ones(1), self.alpha, self.eps, self.ring.tree.limit)  # of the running maximum

    def __dealloc__(self):
        if self.memory != NULL:
            replay_memory_free(self.memory, self.bytes)
        if self.descriptor >= 0:
            close(self.descriptor)

    @property
    def added(self):
        return replay_ring_added(&self.ring)

    @property
    def joined(self):
        return replay_ring_joined(&self.ring)

    @property
    def repaired(self):
        """How often the owner of the lock was found dead."""
        return replay_ring_repaired(&self.ring)

    @property
    def max_priority(self):
        return replay_ring_max_priority(&self.ring)

    @property
    def nbytes(self):
        return self.bytes

    def join(self):
        """Become one more process that uses the ring; its number, from 1 on."""
        return replay_ring_join(&self.ring)

    def before_fork(self):
        """A thread of this process is about to fork."""

    def after_fork(self, is_child):
        """It has; what other threads held will not be let go of in the child, where they are not."""
        if is_child:
            self.ring.first_writer = getpid() % REPLAY_RING_WRITERS
        if is_child and self.descriptor < 0:
            made_locks(replay_ring_after_fork(&self.ring))

    # ---- adding ----

    def add(self, dict values, priorities):
        cdef const char *columns[REPLAY_ROWS_FIELDS]
        cdef double scalars[REPLAY_ROWS_FIELDS]
        cdef int64_t rows
        cdef bint is_single = False
        cdef Numbers raw = None, leaves = None
        cdef object kept = None
        if self._as_they_are(values, columns, scalars, &rows, &is_single) == 0:
            kept, is_single = columns_of(self.fields, values)
            rows = len(kept[0])
            for i in range(len(self.fields)):
                columns[i] = <const char *>address(kept[i], False)
        if priorities is not None:
            raw, leaves = self._leaves(priorities, () if is_single else (rows,), rows)
        indices = empty(() if is_single else rows, int64)
        self._insert(columns, rows, NULL if raw is None else raw.first, NULL if leaves is None else leaves.first,
                     <int64_t *>address(indices, True))
        return indices

    cdef int _as_they_are(self, dict values, const char **columns, double *scalars, int64_t *rows, bint *is_single) \
            except -1:
        """Finds where rows lie, if they lie just as they are stored, and how many they are. 0: they do not."""
        cdef Py_ssize_t i, axis, axes, lead, count = len(self.names)
        cdef Py_buffer view
        cdef tuple shape
        cdef bint fits = len(values) == count
        for i in range(count):
            value = values.get(self.names[i])
            shape = <tuple>self.shapes[i]
            axes = len(shape)
            if axes == 0 and is_exact(value) and self._is_float(i, <double>value, &scalars[i]):
                columns[i] = <const char *>&scalars[i]
                lead = 0
            elif axes == 0 and isinstance(value, bool) and self.dtypes[i] is boolean:
                (<char *>&scalars[i])[0] = value is True
                columns[i] = <const char *>&scalars[i]
                lead = 0
            elif (type(value) is ndarray or isinstance(value, generic)) and value.dtype is self.dtypes[i]:
                try:
                    PyObject_GetBuffer(value, &view, PyBUF_ND)
                except (BufferError, ValueError):  # not contiguous
                    return 0
                lead = view.ndim - axes
                fits &= lead == 0 or lead == 1
                for axis in range(axes if fits else 0):
                    fits &= view.shape[lead + axis] == <Py_ssize_t>shape[axis]
                if i == 0:
                    rows[0] = view.shape[0] if lead == 1 else 1
                elif lead == 1:
                    fits &= view.shape[0] == rows[0]
                columns[i] = <const char *>view.buf
                PyBuffer_Release(&view)
            else:
                return 0
            if i == 0:
                is_single[0] = lead == 0
                rows[0] = 1 if lead == 0 else rows[0]
            if not fits or is_single[0] != (lead == 0):
                return 0
        return 1

    cdef bint _is_float(self, Py_ssize_t i, double value, double *scalar) noexcept:
        """Writes a number as it is stored, if field `i` stores floats."""
        if self.dtypes[i] is float32:
            (<float *>scalar)[0] = <float>value
            return True
        scalar[0] = value
        return self.dtypes[i] is float64

    cdef tuple _leaves(self, priorities, shape, int64_t rows):
        """Raw priorities, and their leaves."""
        cdef Numbers raw = Numbers(rows), leaves = Numbers(rows)
        cdef Py_buffer view
        cdef int64_t i
        if plain(priorities, float32, rows, &view) and len(shape) == 1:
            for i in range(rows):
                raw.first[i] = (<const float *>view.buf)[i]
        elif rows > 0:
            if not (plain(priorities, float64, rows, &view) and len(shape) == 1):
                priorities = checked_priorities(priorities, shape)
            memcpy(raw.first, address(priorities, False), rows * sizeof(double))
        if replay_ring_leaves(&self.ring, raw.first, leaves.first, rows) < rows:
            leaves_of(checked_priorities(priorities, shape), self.alpha, self.eps, self.ring.tree.limit)
            raise AssertionError(f"a leaf of {priorities} is possible in NumPy, but not here")
        return raw, leaves

    cdef int _insert(self, const char **columns, int64_t rows, const double *raw, const double *leaves,
                     int64_t *indices) except -1:
        cdef int64_t at = 0, i
        cdef replay_ring_claim claim
        cdef const double *some_raw = NULL
        cdef const double *some_leaves = NULL
        while at < rows:
            claim.writer = -1
            claim.rows = min(rows - at, min(self.ring.capacity, <int64_t>REPLAY_RING_CLAIM))
            self._begin(&claim)
            if raw != NULL:
                some_raw, some_leaves = raw + at, leaves + at
            if claim.rows * self.row_bytes >= LONG_BYTES:
                with nogil:
                    replay_ring_write(&self.ring, &claim, columns, at)
                    self._finish(&claim, some_raw, some_leaves)
            else:
                replay_ring_write(&self.ring, &claim, columns, at)
                if replay_ring_finish(&self.ring, &claim, some_raw, some_leaves, 0) == REPLAY_RING_BUSY:
                    with nogil:
                        self._finish(&claim, some_raw, some_leaves)
            for i in range(claim.rows):
                indices[at + i] = (claim.first + i) % self.ring.capacity
            at += claim.rows
        return 0

    cdef int _begin(self, replay_ring_claim *claim) except -1:
        cdef int result = replay_ring_begin(&self.ring, claim, 0)
        try:
            while result == REPLAY_RING_BUSY:
                with nogil:
                    result = replay_ring_begin(&self.ring, claim, 1)
                if result == REPLAY_RING_BUSY:  # what was claimed is finished first
                    PyErr_CheckSignals()
            if result != REPLAY_RING_DONE:
                damaged()
        except BaseException:
            if result != REPLAY_RING_DONE:
                replay_ring_abandon(&self.ring, claim)
            raise
        return 0

    cdef void _finish(self, replay_ring_claim *claim, const double *raw, const double *leaves) noexcept nogil:
        """Without a look at signals: what was claimed is finished."""
        while replay_ring_finish(&self.ring, claim, raw, leaves, 1) == REPLAY_RING_BUSY:
            pass

    # ---- sampling ----

    def sample(self, rng, int64_t n, double beta, bint by_buffer, bint stratified, out):
        cdef char *columns[REPLAY_ROWS_FIELDS]
        cdef replay_ring_batch batch
        cdef Numbers leaves = Numbers(n)
        cdef dict made
        if out is None:
            made = {}
            for i in range(len(self.names)):
                made[self.names[i]] = empty((n, *<tuple>self.shapes[i]), self.dtypes[i])
            made["indices"] = empty(n, int64)
            made["weights"] = empty(n, float32)
            made["generations"] = empty(n, int64)
        else:
            made = outputs_of(self.outputs, n, out)
        for i in range(len(self.names)):
            columns[i] = <char *>address(made[self.names[i]], True)
        uniforms = rng.random(n)
        memset(&batch, 0, sizeof(batch))
        batch.n = n
        batch.uniforms = <const double *>address(uniforms, True)
        batch.stratified = stratified
        batch.by_buffer = by_buffer
        batch.columns = columns
        batch.indices = <int64_t *>address(made["indices"], True)
        batch.generations = <int64_t *>address(made["generations"], True)
        batch.leaves = leaves.first
        batch.smallest = INFINITY
        memset(batch.generations, 0xFF, n * sizeof(int64_t))
        self._draw(&batch, rng)
        weigh(&batch, beta, <float *>address(made["weights"], True))
        return made

    cdef int _draw(self, replay_ring_batch *batch, rng) except -1:
        cdef int result, rounds = 0
        cdef int64_t drawn = batch.n
        cdef bint is_long = batch.n * self.row_bytes >= LONG_BYTES
        while True:
            if is_long:
                result = REPLAY_RING_BUSY
            else:
                result = replay_ring_sample(&self.ring, batch, 0)
            while result == REPLAY_RING_BUSY:
                with nogil:
                    result = replay_ring_sample(&self.ring, batch, 1)
                PyErr_CheckSignals()
            if result == REPLAY_RING_DONE:
                return 0
            if result == REPLAY_RING_EMPTY:
                raise nothing_to_draw(rng, drawn)
            if result < 0:
                damaged()
            rounds += 1
            if rounds == 100:
                raise changed_too_often(batch.changed, batch.n, rounds)
            drawn = batch.changed
            self._draw_again(batch, rng)

    cdef int _draw_again(self, replay_ring_batch *batch, rng) except -1:
        """New uniforms for rows that were overwritten while they were copied."""
        cdef object fresh = rng.random(batch.changed)
        cdef const double *uniforms = <const double *>address(fresh, False)
        cdef double *into = <double *>batch.uniforms
        cdef int64_t i, at = 0
        for i in range(batch.n):
            if batch.generations[i] < 0 and at < batch.changed:
                into[i] = uniforms[at]
                at += 1
        batch.next = batch.changed = 0
        return 0

    # ---- updating ----

    def update(self, indices, priorities, generations):
        cdef replay_ring_change change
        cdef Numbers raw, leaves
        cdef Py_buffer view, versions
        cdef int64_t rows
        cdef int result = REPLAY_RING_BUSY
        memset(&change, 0, sizeof(change))
        if plain(indices, int64, -1, &view) and are_below(<const int64_t *>view.buf, view.shape[0], self._stored()) \
                and (generations is None or plain(generations, int64, view.shape[0], &versions)):
            rows = view.shape[0]
            replay_ring_prefetch(&self.ring, <const int64_t *>view.buf, rows)
            raw, leaves = self._leaves(priorities, (rows,), rows)
            change.indices = <const int64_t *>view.buf
            if generations is not None:
                change.generations = <const int64_t *>versions.buf
        else:
            indices, priorities, generations = update_arguments(indices, priorities, generations, self._stored())
            rows = len(indices)
            raw, leaves = self._leaves(priorities, (rows,), rows)
            change.indices = <const int64_t *>address(indices, False)
            if generations is not None:
                change.generations = <const int64_t *>address(generations, False)
        change.n = rows
        change.priorities = raw.first
        change.leaves = leaves.first
        result = replay_ring_update(&self.ring, &change, 0)
        while result == REPLAY_RING_BUSY:
            with nogil:
                result = replay_ring_update(&self.ring, &change, 1)
            PyErr_CheckSignals()
        if result < 0:
            damaged()
        return change.kept

    cdef int64_t _stored(self) noexcept:
        return min(replay_ring_added(&self.ring), self.ring.capacity)

    # ---- saving ----

    def content(self):
        cdef char *columns[REPLAY_ROWS_FIELDS]
        cdef replay_ring_content content
        cdef int result
        cdef int64_t stored
        made = Content.room(self.settings)
        for i in range(len(self.fields)):
            columns[i] = <char *>address(made.columns[i], True)
        content.columns = columns
        content.generations = <int64_t *>address(made.generations, True)
        content.leaves = <double *>address(made.leaves, True)
        result = REPLAY_RING_BUSY
        while result == REPLAY_RING_BUSY:
            with nogil:
                result = replay_ring_save(&self.ring, &content, 1)
            PyErr_CheckSignals()
        if result < 0:
            damaged()
        stored = min(content.added, self.ring.capacity)
        return Content(
            columns=tuple(column[:stored] for column in made.columns),
            leaves=made.leaves[:stored],
            generations=made.generations[:stored],
            added=content.added,
            joined=content.joined,
            max_priority=content.max_priority,
        )

    def restore(self, made):
        cdef char *columns[REPLAY_ROWS_FIELDS]
        cdef replay_ring_content content
        leaves_of(numpy.array([made.max_priority]), self.alpha, self.eps, self.ring.tree.limit)  # that it is possible
        if made.leaves.max(initial=0) > self.ring.tree.limit:
            raise value_not_allowed(float(made.leaves.max()), int(made.leaves.argmax()), self.ring.tree.limit)
        for i in range(len(self.fields)):
            columns[i] = <char *>address(made.columns[i], False)
        content.columns = columns
        content.generations = <int64_t *>address(made.generations, False)
        content.leaves = <double *>address(made.leaves, False)
        content.added = made.added
        content.joined = made.joined
        content.max_priority = made.max_priority
        replay_ring_restore(&self.ring, &content)


cdef bint are_below(const int64_t *indices, int64_t n, int64_t stored) noexcept:
    """Are all from 0 to `stored` - 1? Without a branch, several at a time."""
    cdef uint64_t index, signs = 0  # of an index, and of how far it is from the last one
    cdef int64_t i
    for i in range(n):
        index = <uint64_t>indices[i]
        signs |= index | (<uint64_t>(stored - 1) - index)
    return signs >> 63 == 0


cdef bint is_exact(object value) except -1:
    """Is this a number of Python's own that a double holds?"""
    return isinstance(value, float) or (isinstance(value, int) and -(1 << 53) <= value <= 1 << 53)


cdef int made_locks(int error) except -1:
    if error:
        raise OSError(error, f"Locks of a replay buffer: {os.strerror(error)}")
    return 0


cdef void weigh(replay_ring_batch *batch, double beta, float *weights) noexcept:
    """(least / leaf)^beta, as `importance.weights_of`; uses up the leaves."""
    cdef double *leaves = batch.leaves
    cdef double least = batch.smallest
    cdef int64_t i
    if not batch.by_buffer:
        for i in range(batch.n):
            least = min(least, leaves[i])
    for i in range(batch.n):
        leaves[i] = least / leaves[i]
    replay_power(leaves, beta, leaves, batch.n)
    for i in range(batch.n):
        weights[i] = <float>leaves[i]
