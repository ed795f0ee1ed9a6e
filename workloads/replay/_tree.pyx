# cython: language_level=3, freethreading_compatible=True, boundscheck=False, wraparound=False
"""The sum tree in C: binding of native/tree.c. `numpy_tree.NumpyTree` is the same in NumPy, and says what is what.

Contiguous arrays of int64 and of float32 or float64 are read where they are; others are converted. Plain buffers, no
memoryviews: these would take half a microsecond each, and ten seconds to compile.
"""

from cpython.buffer cimport PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

import numpy as np

from workloads.replay import tree_arguments

cdef extern from "native/memory.h":
    void *replay_memory_new(size_t bytes)
    void replay_memory_free(void *memory, size_t bytes)

cdef extern from "native/power.h":
    void replay_power(const double *base, double exponent, double *made, int64_t n) nogil

cdef extern from "native/tree.h":
    ctypedef struct replay_generator:
        pass
    ctypedef struct replay_tree:
        int64_t capacity
        int levels
        double limit
        void **sums

    size_t replay_tree_bytes(int64_t capacity, int fan_out, int is_double)
    int replay_tree_view(replay_tree *t, void *memory, int64_t capacity, int fan_out, int is_double)
    void replay_tree_set(replay_tree *t, const int64_t *indices, const double *values, int64_t n) nogil
    void replay_tree_set_float(replay_tree *t, const int64_t *indices, const float *values, int64_t n) nogil
    int64_t replay_tree_invalid(const replay_tree *t, const double *values, int64_t n)
    int64_t replay_tree_invalid_float(const replay_tree *t, const float *values, int64_t n)
    int64_t replay_tree_outside(const replay_tree *t, const int64_t *indices, int64_t n)
    double replay_tree_get(const replay_tree *t, int64_t index)
    double replay_tree_total(const replay_tree *t)
    double replay_tree_min(replay_tree *t) nogil
    void replay_tree_find(const replay_tree *t, const double *masses, int64_t *indices, double *leaves, int64_t n) nogil
    void replay_tree_draw(
        const replay_tree *t, const replay_generator *g, int64_t *indices, double *leaves, int64_t n, int stratified
    ) nogil
    void replay_tree_weights(const double *leaves, int64_t n, double beta, double smallest, float *weights) nogil
    int replay_tree_use(replay_tree *t, int simd)

# What takes longer than about 100 us lets other threads run; for less, they would rather wait than be woken.
cdef enum:
    NODES_WITH_GIL = 16384

cdef object ndarray = np.ndarray, empty = np.empty
cdef object INT64 = np.dtype(np.int64), FLOAT64 = np.dtype(np.float64), FLOAT32 = np.dtype(np.float32)


cdef bint acquire(object array, Py_buffer *view, object dtype, object other) except -1:
    """Is `array` a contiguous vector of one of the two dtypes? Then `view` is of it."""
    if type(array) is not ndarray:
        return False
    cdef object of = array.dtype
    if of is not dtype and of is not other and of != dtype and of != other:
        return False
    try:
        PyObject_GetBuffer(array, view, PyBUF_ND)
    except (BufferError, ValueError):  # not contiguous
        return False
    if view.ndim == 1:
        return True
    PyBuffer_Release(view)
    return False


cdef object take_indices(object indices, Py_buffer *view):
    if not acquire(indices, view, INT64, INT64):
        indices = tree_arguments.index_array(indices)
        if not acquire(indices, view, INT64, INT64):
            raise TypeError("an array of int64 is not what it says")
    return indices


cdef object take_values(object values, Py_ssize_t length, Py_buffer *view):
    if not acquire(values, view, FLOAT64, FLOAT32):
        values = tree_arguments.value_array(values, length)
        if not acquire(values, view, FLOAT64, FLOAT32):
            raise TypeError("an array of floats is not what it says")
    return values


cdef int take_doubles(object array, Py_buffer *view) except -1:
    if not acquire(array, view, FLOAT64, FLOAT64):
        raise TypeError("a contiguous vector of float64 is needed")
    return 0


cdef class Tree:
    cdef replay_tree tree
    cdef void *memory
    cdef size_t bytes
    cdef readonly object dtype
    cdef readonly int fan_out

    def __cinit__(self, int64_t capacity, int fan_out, dtype):
        cdef int is_double = dtype == FLOAT64
        self.bytes = replay_tree_bytes(capacity, fan_out, is_double)
        if self.bytes == 0:
            raise ValueError(f"no tree has capacity {capacity} and fan-out {fan_out}")
        self.memory = replay_memory_new(self.bytes)
        if self.memory is NULL:
            raise MemoryError(f"There is no memory for a tree of {capacity} leaves, which takes {self.bytes} bytes.")
        replay_tree_view(&self.tree, self.memory, capacity, fan_out, is_double)
        self.dtype = dtype
        self.fan_out = fan_out

    def __dealloc__(self):
        if self.memory is not NULL:
            replay_memory_free(self.memory, self.bytes)

    @property
    def capacity(self):
        return self.tree.capacity

    @property
    def limit(self):
        return self.tree.limit

    @property
    def total(self):
        return replay_tree_total(&self.tree)

    @property
    def min(self):
        return replay_tree_min(&self.tree)

    @property
    def nbytes(self):
        return self.bytes

    def use(self, int simd):
        """Take kernel 0 (scalar) or 1 (AVX2); says whether it is to be had."""
        return replay_tree_use(&self.tree, simd) == 0

    def addresses(self):
        """Where each level begins, the leaves first."""
        return [<size_t>self.tree.sums[level] for level in range(self.tree.levels)]

    def get(self, indices):
        cdef Py_buffer i, v
        cdef Py_ssize_t j
        indices = take_indices(indices, &i)
        try:
            self._check_indices(indices, &i)
            leaves = empty(i.shape[0], FLOAT64)
            PyObject_GetBuffer(leaves, &v, PyBUF_WRITABLE)
            for j in range(i.shape[0]):
                (<double *>v.buf)[j] = replay_tree_get(&self.tree, (<int64_t *>i.buf)[j])
            PyBuffer_Release(&v)
            return leaves
        finally:
            PyBuffer_Release(&i)

    def set(self, indices, values):
        cdef Py_buffer i, v
        indices = take_indices(indices, &i)
        try:
            values = take_values(values, i.shape[0], &v)
            try:
                self._check_indices(indices, &i)
                self._check_values(values, &v, i.shape[0])
                if i.shape[0] * self.tree.levels <= NODES_WITH_GIL:
                    self._set(&i, &v)
                else:
                    with nogil:
                        self._set(&i, &v)
            finally:
                PyBuffer_Release(&v)
        finally:
            PyBuffer_Release(&i)

    cdef void _set(self, Py_buffer *i, Py_buffer *v) noexcept nogil:
        if v.itemsize == 8:
            replay_tree_set(&self.tree, <int64_t *>i.buf, <double *>v.buf, i.shape[0])
        else:
            replay_tree_set_float(&self.tree, <int64_t *>i.buf, <float *>v.buf, i.shape[0])

    cdef int _check_indices(self, object indices, Py_buffer *i) except -1:
        cdef int64_t place = replay_tree_outside(&self.tree, <int64_t *>i.buf, i.shape[0])
        if place < i.shape[0]:
            raise tree_arguments.index_outside(indices[place], place, self.tree.capacity)
        return 0

    cdef int _check_values(self, object values, Py_buffer *v, Py_ssize_t length) except -1:
        cdef int64_t place
        if v.shape[0] != length:
            raise tree_arguments.wrong_lengths(length, v.shape[0])
        if v.itemsize == 8:
            place = replay_tree_invalid(&self.tree, <double *>v.buf, length)
        else:
            place = replay_tree_invalid_float(&self.tree, <float *>v.buf, length)
        if place < length:
            raise tree_arguments.value_not_allowed(float(values[place]), place, self.tree.limit)
        return 0

    cdef int _check_mass(self) except -1:
        if not replay_tree_total(&self.tree) > 0:
            raise tree_arguments.empty_mass()
        return 0

    def find(self, masses):
        cdef Py_buffer m, i, v
        self._check_mass()
        take_doubles(masses, &m)
        indices, leaves = empty(m.shape[0], INT64), empty(m.shape[0], FLOAT64)
        PyObject_GetBuffer(indices, &i, PyBUF_WRITABLE)
        PyObject_GetBuffer(leaves, &v, PyBUF_WRITABLE)
        with nogil:
            replay_tree_find(&self.tree, <double *>m.buf, <int64_t *>i.buf, <double *>v.buf, m.shape[0])
        PyBuffer_Release(&v)
        PyBuffer_Release(&i)
        PyBuffer_Release(&m)
        return indices, leaves

    def sample(self, rng, int64_t n, bint stratified):
        return self._sample(rng, n, stratified, False, 0, False)

    def sample_weighted(self, rng, int64_t n, bint stratified, double beta, bint by_buffer):
        return self._sample(rng, n, stratified, True, beta, by_buffer)

    cdef object _sample(self, object rng, int64_t n, bint stratified, bint weighted, double beta, bint by_buffer):
        cdef Py_buffer i, v, w
        cdef double smallest
        cdef const replay_generator *generator
        self._check_mass()
        try:
            source = rng.bit_generator
            lock = source.lock
            generator = <const replay_generator *>PyCapsule_GetPointer(source.capsule, "BitGenerator")
        except (AttributeError, ValueError):
            raise tree_arguments.no_generator(rng) from None
        indices, leaves = empty(n, INT64), empty(n, FLOAT64)
        PyObject_GetBuffer(indices, &i, PyBUF_WRITABLE)
        PyObject_GetBuffer(leaves, &v, PyBUF_WRITABLE)
        try:
            with lock:
                if n * self.tree.levels <= NODES_WITH_GIL:
                    replay_tree_draw(&self.tree, generator, <int64_t *>i.buf, <double *>v.buf, n, stratified)
                else:
                    with nogil:
                        replay_tree_draw(&self.tree, generator, <int64_t *>i.buf, <double *>v.buf, n, stratified)
            if not weighted:
                return indices
            weights = empty(n, FLOAT32)
            PyObject_GetBuffer(weights, &w, PyBUF_WRITABLE)
            smallest = replay_tree_min(&self.tree) if by_buffer else 0
            replay_tree_weights(<double *>v.buf, n, beta, smallest, <float *>w.buf)
            PyBuffer_Release(&w)
            return indices, weights
        finally:
            PyBuffer_Release(&v)
            PyBuffer_Release(&i)


def power(bases, double exponent):
    """See `workloads.replay.power.power`."""
    cdef Py_buffer b, m
    take_doubles(bases, &b)
    made = empty(b.shape[0], FLOAT64)
    PyObject_GetBuffer(made, &m, PyBUF_WRITABLE)
    replay_power(<double *>b.buf, exponent, <double *>m.buf, b.shape[0])
    PyBuffer_Release(&m)
    PyBuffer_Release(&b)
    return made
