"""Saved buffers: restored bit by bit, whole or not there, and any damage is noticed."""

from __future__ import annotations

import contextlib
import json
import math
import random
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
from hashlib import blake2b

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from tests.workloads.replay.mutations import damaged, forged, saved_buffer
from workloads.replay import PrioritizedReplay, saving
from workloads.replay.saving import SavedReplayError, read, write

KIND = "sample"
DTYPES = st.one_of(
    of_numpy.boolean_dtypes(),
    of_numpy.integer_dtypes(endianness="?"),
    of_numpy.unsigned_integer_dtypes(endianness="?"),
    of_numpy.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    of_numpy.complex_number_dtypes(endianness="?"),
)
ARRAYS = st.dictionaries(
    st.text(max_size=5), of_numpy.arrays(DTYPES, of_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0)), max_size=4
)
CONFIGS = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def saved(tmp_path):
    """A file, and what is in it."""
    path = tmp_path / "buffer"
    arrays = {"x": np.arange(50, dtype=np.float32).reshape(10, 5), "flags": np.arange(10) % 2 == 0}
    write(path, KIND, {"capacity": 10}, arrays)
    return path


def patched(path, **changes):
    """The same file with fields of its preamble changed, or with another directory in place of its own."""
    data = bytearray(path.read_bytes())
    fields = dict(zip(("magic", "version", "whole", "offset", "length", "digest"), preamble(data), strict=True))
    if "directory" in changes:
        text = changes.pop("directory")
        data[fields["offset"] :] = text
        fields |= {"length": len(text), "whole": len(data), "digest": blake2b(text, digest_size=24).digest()}
    struct.pack_into("<8sI4xQQQ24s", data, 0, *(fields | changes).values())
    path.write_bytes(data)


def preamble(data):
    return struct.unpack_from("<8sI4xQQQ24s", data)


def directory_of(path):
    data = path.read_bytes()
    _, _, _, offset, length, _ = preamble(data)
    return json.loads(data[offset : offset + length])


@settings(max_examples=40)
@given(CONFIGS, ARRAYS)
def test_what_was_written_is_read(folder, config, arrays):
    write(folder / "any", KIND, config, arrays)

    config_read, arrays_read = read(folder / "any", KIND)

    assert config_read == config
    assert list(arrays_read) == list(arrays)
    for name, array in arrays.items():
        assert arrays_read[name].shape == array.shape
        assert arrays_read[name].dtype == array.dtype.newbyteorder("=")
        assert arrays_read[name].tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def test_arrays_of_any_strides_are_written_and_filled_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "_PIECE_BYTES", 100)
    records = np.zeros(1000, [("a", "f4", (3,)), ("b", "i8")])
    records["a"] = np.random.default_rng(0).random((1000, 3))
    write(tmp_path / "buffer", KIND, {}, {"a": records["a"], "reversed": records["a"][::-1, ::2]})

    target = np.zeros(1000, [("a", "f4", (3,)), ("b", "i8")])
    with saving.Saved(tmp_path / "buffer", KIND) as opened:
        opened.read_into("a", target["a"])
        backwards = opened.read("reversed")

    assert (target["a"] == records["a"]).all()
    assert (target["b"] == 0).all()
    assert (backwards == records["a"][::-1, ::2]).all()


def test_a_generator_goes_on_where_it_was(tmp_path):
    rng = np.random.Generator(np.random.PCG64(5))
    rng.random(3)
    rng.integers(0, 10, dtype=np.int32)  # half of a number is left over
    write(tmp_path / "buffer", KIND, {"generator": saving.generator_state(rng)}, {})

    again = saving.generator_from(read(tmp_path / "buffer", KIND)[0]["generator"])

    assert again.integers(0, 1000, 5, dtype=np.int32).tolist() == rng.integers(0, 1000, 5, dtype=np.int32).tolist()
    assert again.random(5).tolist() == rng.random(5).tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"state": {"state": 2**128, "inc": 1}},
        {"state": {"state": -1, "inc": 1}},
        {"state": {"state": 1, "inc": 2}},
        {"state": {}},
        {"state": 5},
        {"uinteger": 2**32},
        {"has_uint32": 2},
        {"bit_generator": "MT19937"},
    ],
)
def test_what_is_no_state_of_a_generator_is_said_to_be_none(change):
    state = saving.generator_state(np.random.default_rng(0)) | change

    with pytest.raises(SavedReplayError, match="does not fit together"), saving.restoring("file"):
        saving.generator_from(state)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_no_configuration(tmp_path, number):
    with pytest.raises(ValueError, match="Out of range float"):
        write(tmp_path / "buffer", KIND, {"alpha": number}, {})

    assert list(tmp_path.iterdir()) == []


def test_only_numbers_are_saved_and_a_failure_leaves_the_older_file(saved):
    before = saved.read_bytes()

    with pytest.raises(TypeError, match="'names' has dtype object"):
        write(saved, KIND, {}, {"x": np.zeros(1000), "names": np.array(["a", None])})
    with pytest.raises(TypeError, match="JSON"):
        write(saved, KIND, {"x": {1, 2}}, {})

    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_disk_that_is_full_leaves_the_older_file_and_nothing_else(saved):
    before = saved.read_bytes()
    program = (
        "import resource, sys\nimport numpy as np\nfrom workloads.replay.saving import write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"write(sys.argv[1], {KIND!r}, {{}}, {{'x': np.zeros(10_000_000)}})\n"
    )

    done = subprocess.run([sys.executable, "-c", program, saved], check=False, capture_output=True, text=True)

    assert "OSError: [Errno 27]" in done.stderr
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_writer_that_is_killed_leaves_the_older_file_whole(saved):
    program = (
        "import sys\nimport numpy as np\nfrom workloads.replay.saving import write\n"
        "for number in range(1000):\n"
        f"    write(sys.argv[1], {KIND!r}, {{'number': number}}, {{'x': np.full(3_000_000, number)}})\n"
        "    print('.', flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, saved], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.read(1)
        deadline = time.monotonic() + 10
        while not any(path.name.endswith(".part") for path in saved.parent.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)

    config, arrays = read(saved, KIND)
    assert (arrays["x"] == config["number"]).all()
    assert arrays["x"].shape == (3_000_000,)


def test_a_file_is_written_where_a_link_points_to_and_with_the_usual_permissions(tmp_path):
    target, link = tmp_path / "folder" / "buffer", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    usual = tmp_path / "usual"
    usual.touch()

    write(link, KIND, {}, {})

    assert link.is_symlink()
    assert target.stat().st_mode == usual.stat().st_mode
    assert read(link, KIND) == ({}, {})


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing", KIND)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04pickled", b"\x89RPB\n", bytes(1000)])
def test_a_foreign_file_is_said_to_be_none(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)

    with pytest.raises(SavedReplayError, match=r"foreign: it is no saved replay buffer\."):
        read(tmp_path / "foreign", KIND)


def test_a_file_of_another_kind_is_named(saved):
    with pytest.raises(SavedReplayError, match="it holds a sample buffer, not a uniform one"):
        read(saved, "uniform")


def test_a_newer_format_is_named(saved):
    patched(saved, version=saving.FORMAT + 1)

    with pytest.raises(SavedReplayError, match=r"format 2, and this version reads up to 1\. Install a newer one"):
        read(saved, KIND)


@pytest.mark.parametrize("kept", [8, 63, 64, 100, 300])
def test_a_truncated_file_says_how_much_is_there(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])

    with pytest.raises(SavedReplayError, match=f"truncated: .*{kept}"):
        read(saved, KIND)


def test_a_changed_array_is_named(saved):
    data = bytearray(saved.read_bytes())
    data[64 + 17] ^= 4
    saved.write_bytes(data)

    with pytest.raises(SavedReplayError, match="'x' is corrupt"):
        read(saved, KIND)


def test_a_target_of_another_shape_or_dtype_is_rejected(saved):
    with saving.Saved(saved, KIND) as opened:
        for target in (np.zeros((10, 4), np.float32), np.zeros((10, 5), np.float64)):
            with pytest.raises(SavedReplayError, match=r"'x' is float32 of shape \(10, 5\), not"):
                opened.read_into("x", target)
        with pytest.raises(SavedReplayError, match="does not fit together: 'y'"):
            opened.read("y")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**62, 2**62]},
        {"shape": [10**12]},
        {"shape": [-1, 5]},
        {"shape": [2.5]},
        {"shape": "abc"},
        {"shape": 7},
        {"shape": [True]},
        {"offset": 10**30},
        {"offset": -8},
        {"dtype": "O"},
        {"dtype": "V8"},
        {"dtype": "f4,f4"},
        {"dtype": "(1000000000000,)f8"},
        {"dtype": "S0"},
        {"dtype": "nonsense"},
        {"dtype": None},
        {"digest": 5},
        {"name": []},
    ],
)
def test_made_up_directories_are_rejected_before_anything_large_is_allocated(saved, change):
    directory = directory_of(saved)
    directory["arrays"][0] |= change
    patched(saved, directory=json.dumps(directory).encode())
    tracemalloc.start()

    with pytest.raises(SavedReplayError):
        read(saved, KIND)

    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"kind": "sample"}',
        b'{"kind": "sample", "config": 5, "arrays": []}',
        b'{"kind": "sample", "config": {}, "arrays": {}, "arrays": 5}',
        b'{"kind": "sample", "config": {}, "arrays": [5]}',
        b'{"kind": "sample", "config": {}, "arrays": [{}]}',
        b'{"kind": ["sample"], "config": {}, "arrays": []}',
        b"[" * 200_000,
        b"9" * 10_000,
        b"\xff\xfe{}",
    ],
)
def test_directories_that_say_something_else_are_rejected(saved, text):
    patched(saved, directory=text)

    with pytest.raises(SavedReplayError):
        read(saved, KIND)


@pytest.mark.parametrize(
    "change", [{"length": 2**60}, {"offset": 2**63}, {"length": 2**64 - 1, "offset": 2}, {"whole": 2**60}, {"whole": 0}]
)
def test_made_up_preambles_are_rejected(saved, change):
    patched(saved, **change)

    with pytest.raises(SavedReplayError):
        read(saved, KIND)


def test_a_boolean_that_is_neither_true_nor_false_is_rejected(saved):
    directory = directory_of(saved)
    flags = directory["arrays"][1]
    data = bytearray(saved.read_bytes())
    data[flags["offset"]] = 7
    saved.write_bytes(data)
    flags["digest"] = blake2b(data[flags["offset"] : flags["offset"] + 10], digest_size=24).hexdigest()
    patched(saved, directory=json.dumps(directory).encode())

    with pytest.raises(SavedReplayError, match="neither true nor false"):
        read(saved, KIND)


@pytest.fixture(scope="module")
def original(folder):
    """The file of a buffer that was used for a while."""
    saved_buffer(folder / "original")
    return folder / "original"


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_damage_of_a_buffers_file_is_noticed_or_does_not_matter(original, seed):
    copy = original.with_name("damaged")
    copy.write_bytes(damaged(original.read_bytes(), random.Random(seed)))

    with contextlib.suppress(SavedReplayError):
        restored = PrioritizedReplay.load(copy)
        assert repr(restored.state()) == repr(PrioritizedReplay.load(original).state())


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_a_forged_file_is_rejected_or_makes_a_buffer_that_works(original, seed):
    copy = original.with_name("forged")
    copy.write_bytes(forged(original.read_bytes(), random.Random(seed)))

    with contextlib.suppress(SavedReplayError, MemoryError):
        restored = PrioritizedReplay.load(copy)
        batch = restored.sample(8)
        assert (batch["indices"] < len(restored)).all()
        assert (restored.update_priorities(batch["indices"], np.ones(8), batch["generations"])) == 8


def test_files_are_closed_whatever_happens(saved):
    opened = psutil.Process().num_fds()
    patched(saved, version=9)
    for _ in range(5):
        with pytest.raises(SavedReplayError):
            read(saved, KIND)

    assert psutil.Process().num_fds() == opened
