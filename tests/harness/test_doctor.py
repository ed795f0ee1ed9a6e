"""What `doctor` makes of machines that are not there, and that it can look at the one that is."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console

from harness import observed, probes, registry
from harness.doctor import Grade, examine, judge, print_examination, summed_up, told_on
from harness.fingerprint import Fingerprint, Roots
from harness.invocation import THREAD_LIMITS
from harness.observed import Missing, Observed
from harness.probes import BusyProcess, Noise, Ticks

EVEN = Noise(loops=1000, p50_s=2e-3, p95_over_p50=1.01, second_over_first=1.0)

FIT = Observed(
    fingerprint=Fingerprint(
        architecture="x86_64",
        cpu_model="Testium 3",
        physical_cores=4,
        processors=4,
        smt="off",
        memory_gib=16,
        hypervisor="none",
        governor="performance",
        turbo="off",
    ),
    python="CPython 3.13.1",
    usable=20,
    parts=("package._native",),
    online_processors=4,
    core_kinds=1,
    frequency_driver="acpi-cpufreq",
    on_battery=False,
    niceness=0,
    clock_source="tsc",
    clock_sources=("tsc", "hpet"),
    turbo_file="devices/system/cpu/cpufreq/boost",
    available_bytes=10**10,
    shared_free_bytes=10**10,
    swap_used_bytes=0,
    load_average=0.1,
    others_processors=0.01,
    swapped_pages=0,
    stolen=0.0,
    clock_step_s=4e-8,
    clock_cost_s=5e-8,
    noise=EVEN,
    wakeup_s=2e-5,
)
"""A machine where nothing is to be mended."""


def seen(machine=None, **changes):
    """The fit machine with changes; those of its fingerprint as `machine`."""
    fingerprint = msgspec.structs.replace(FIT.fingerprint, **(machine or {}))
    return msgspec.structs.replace(FIT, fingerprint=fingerprint, **changes)


def finding(check, observed_):
    """The gravest finding of a check."""
    return next(one for one in judge(observed_).findings if one.check == check)


def test_a_fit_machine_has_nothing_to_mend():
    examination = judge(FIT)

    assert {one.grade for one in examination.findings} == {Grade.OK}
    assert not any(one.remedy or one.command for one in examination.findings)
    assert examination.unknown == ()


FAULTS = [
    ("python", Grade.WARNING, seen(slows_python=("a build for debugging",)), "debugging", ""),
    ("python", Grade.WARNING, seen(is_cpython=False, python="PyPy 3.11"), "PyPy", "CPython"),
    ("plug-ins", Grade.WARNING, seen(broken=("runtime mine: ImportError: no",)), "ImportError", "Repair"),
    (
        "modules",
        Grade.ADVICE,
        seen(missing=(Missing(module="envpool", needed_for="runtime envpool", install="kit[envpool]"),)),
        "envpool",
        'pip install "kit[envpool]"',
    ),
    (
        "native parts",
        Grade.WARNING,
        seen(parts=(), missing=(Missing(module="package._native", needed_for="waiting", install=None),)),
        "package._native is not built",
        "pip install",
    ),
    ("profiler", Grade.ADVICE, seen(has_profiler=False), "py-spy", "pip install"),
    ("thread limits", Grade.ADVICE, seen(variables={"OMP_NUM_THREADS": "8"}), "OMP_NUM_THREADS", "unset OMP"),
    ("pinning", Grade.WARNING, seen(variables={"OMP_PROC_BIND": "true"}), "OMP_PROC_BIND", "unset OMP_PROC_BIND"),
    ("pinning", Grade.WARNING, seen(variables={"GOMP_CPU_AFFINITY": "0"}), "GOMP_CPU_AFFINITY", "unset GOMP"),
    ("inherited settings", Grade.WARNING, seen(variables={"PYTHONDEVMODE": "1"}), "PYTHONDEVMODE", "unset PYTHON"),
    ("Ray's address", Grade.ADVICE, seen(variables={"RAY_ADDRESS": "secret:6379"}), "RAY_ADDRESS", "ray stop"),
    ("Ray's settings", Grade.ADVICE, seen(variables={"RAY_BACKEND_LOG_LEVEL": "debug"}), "RAY_BACKEND", "unset RAY_B"),
    ("processors", Grade.WARNING, seen({"processors": 1}), "1 processor", ""),
    ("processors", Grade.ADVICE, seen({"processors": 2}), "4 processors are online", "taskset"),
    ("kinds of core", Grade.ADVICE, seen(core_kinds=2), "2 kinds of core", "taskset"),
    ("CPU quota", Grade.WARNING, seen({"cpu_quota": 1.5}), "1.5 processors", "--cpuset-cpus 0-0"),
    ("SMT", Grade.ADVICE, seen({"smt": "on"}), "SMT is on", "smt/control"),
    ("governor", Grade.WARNING, seen({"governor": "powersave"}), "powersave", "cpupower"),
    ("frequency driver", Grade.ADVICE, seen(frequency_driver=None), "no hypervisor", ""),
    (
        "turbo",
        Grade.ADVICE,
        seen({"turbo": "on"}),
        "turbo is on",
        "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost",
    ),
    (
        "turbo",
        Grade.ADVICE,
        seen({"turbo": "on"}, turbo_file="devices/system/cpu/intel_pstate/no_turbo"),
        "turbo is on",
        "echo 1 | sudo tee",
    ),
    ("power", Grade.WARNING, seen(on_battery=True), "battery", ""),
    ("priority", Grade.WARNING, seen(niceness=10), "niceness 10", ""),
    ("memory", Grade.WARNING, seen(available_bytes=5 * 10**8), "500 MB", ""),
    ("memory", Grade.ADVICE, seen(available_bytes=3 * 10**9), "3.00 GB", ""),
    ("shared memory", Grade.WARNING, seen(shared_free_bytes=64 * 10**6), "64.0 MB", "mount"),
    ("shared memory", Grade.ADVICE, seen(shared_free_bytes=10**9), "1.00 GB", "mount"),
    ("swap", Grade.ADVICE, seen(swap_used_bytes=10**8), "100 MB", "swapoff"),
    ("swap", Grade.WARNING, seen(swap_used_bytes=10**8, swapped_pages=3), "3 pages moved", "swapoff"),
    (
        "others",
        Grade.WARNING,
        seen(others_processors=1.2, busiest=(BusyProcess(name="compiler", processors=1.1),)),
        "1.20 of 4 processors busy (compiler 1.10)",
        "",
    ),
    ("others", Grade.ADVICE, seen(others_processors=0.3), "0.30 of 4", ""),
    ("load average", Grade.ADVICE, seen(load_average=3.0), "3.00", ""),
    ("steal", Grade.WARNING, seen({"hypervisor": "kvm"}, stolen=0.05), "5.0 %", ""),
    ("steal", Grade.ADVICE, seen({"hypervisor": "kvm"}, stolen=0.01), "1.0 %", ""),
    ("clock source", Grade.WARNING, seen(clock_source="hpet"), "hpet", "echo tsc | sudo tee"),
    ("clock", Grade.WARNING, seen(clock_cost_s=2e-6), "2.00 us", ""),
    ("clock", Grade.ADVICE, seen(clock_step_s=1.5e-6), "1.50 us", ""),
    ("timing noise", Grade.WARNING, seen(noise=msgspec.structs.replace(EVEN, p95_over_p50=1.3)), "1.30", ""),
    ("timing noise", Grade.WARNING, seen(noise=msgspec.structs.replace(EVEN, second_over_first=0.8)), "0.80", ""),
    ("timing noise", Grade.ADVICE, seen(noise=msgspec.structs.replace(EVEN, second_over_first=1.05)), "1.05", ""),
    ("wake-up", Grade.WARNING, seen(wakeup_s=2e-4), "200.0 us", "cpupower"),
    ("wake-up", Grade.ADVICE, seen(wakeup_s=6e-5), "60.0 us", "cpupower"),
]


@pytest.mark.parametrize(("check", "grade", "ill", "said", "mended_by"), FAULTS, ids=[check for check, *_ in FAULTS])
def test_a_fault_is_found_with_a_grade_a_reason_and_a_remedy(check, grade, ill, said, mended_by):
    found = finding(check, ill)

    assert found.grade is grade
    assert said in found.found
    assert found.why
    assert found.remedy
    assert mended_by in f"{found.remedy} {found.command}"
    assert f"{found.found}{found.why}{found.remedy}{found.command}".isascii()


def test_every_check_has_a_fault_that_it_finds():
    assert {one.check for one in judge(FIT).findings} == {check for check, *_ in FAULTS}


def test_a_fault_in_one_thing_leaves_the_others_as_they_are():
    for check, _, ill, *_ in FAULTS:
        assert {one.check for one in judge(ill).findings if one.grade is not Grade.OK} == {check}


def test_what_cannot_be_seen_is_named_and_not_praised():
    blind = judge(Observed(fingerprint=Fingerprint(), python="CPython 3.13.1"))

    assert {"governor", "turbo", "steal", "wake-up", "timing noise", "native parts"} <= set(blind.unknown)
    assert not {one.check for one in blind.findings} & set(blind.unknown)
    assert "Not to be told here: native parts" in summed_up(blind)


def test_busy_others_who_cannot_be_named_are_mentioned():
    assert "cannot be seen from here" in finding("others", seen(others_processors=2.0)).found
    named = seen(others_processors=2.0, busiest=(BusyProcess(name="compiler", processors=1.5),))
    assert "cannot be seen" not in finding("others", named).found


def test_thread_limits_as_the_harness_sets_them_are_in_order():
    assert finding("thread limits", seen(variables=dict(THREAD_LIMITS))).grade is Grade.OK


def test_a_slow_clock_without_a_faster_one_has_no_command():
    assert finding("clock source", seen(clock_source="hpet", clock_sources=("hpet", "acpi_pm"))).command is None


def test_a_guest_is_not_told_to_set_what_only_its_host_can():
    guest = seen({"hypervisor": "kvm"}, frequency_driver=None, wakeup_s=1e-3)

    assert finding("frequency driver", guest).grade is Grade.OK
    assert finding("wake-up", guest).command is None


def test_modules_that_one_extra_brings_are_one_finding():
    missing = [Missing(module=m, needed_for=f"env={m}", install="kit[envs]") for m in ("one", "two")]

    found = [one for one in judge(seen(missing=tuple(missing))).findings if one.check == "modules"]

    assert [one.found for one in found] == ["not installed: one, two; for env=one, env=two"]


def test_the_gravest_findings_come_first():
    grades = [one.grade for one in judge(seen({"smt": "on", "governor": "powersave"})).findings]

    assert grades == sorted(grades, reverse=True)
    assert grades[:3] == [Grade.WARNING, Grade.ADVICE, Grade.OK]


# -------------------------------------------------------------------------------------------- shown


def shown(examination, **options):
    console = Console(file=io.StringIO(), width=100, **options)
    print_examination(examination, console)
    return console.file.getvalue()


def test_the_table_gives_reason_and_command_for_what_is_to_be_mended_alone():
    text = shown(judge(seen({"governor": "powersave"})))

    assert "Testium 3, 4 processors, 16 GiB, fingerprint " in text
    assert "$ sudo cpupower frequency-set --governor performance" in text
    assert "smt/control" not in text
    assert "1 warning, 0 pieces of advice, 28 in order." in text
    assert text.isascii()


def test_colours_are_for_terminals():
    assert "\x1b[" not in shown(judge(FIT))
    assert "\x1b[" in shown(judge(FIT), force_terminal=True)


def test_progress_is_for_terminals():
    for is_terminal in (False, True):
        console = Console(file=io.StringIO(), force_terminal=is_terminal, _environ={"TERM": "xterm"})
        with told_on(console) as tell:
            tell("Timing a loop")
        assert ("Timing a loop" in console.file.getvalue()) is is_terminal


def test_json_says_nothing_of_the_environment_but_names():
    said = json.dumps(judge(seen(variables={"RAY_ADDRESS": "secret:6379", "TOKEN": "hidden"})).to_json())

    assert "RAY_ADDRESS" in said
    assert not any(word in said for word in ("secret", "TOKEN", "hidden"))


# ----------------------------------------------------------------------------------------- observed


def test_a_module_is_missing_a_part_is_unbuilt_and_a_broken_plugin_is_named(installed):
    found = observed._observed_installation()

    missing = {one.module: one for one in found["missing"]}
    assert missing["a_module_that_is_not_there"].needed_for == "runtime needy"
    assert missing["a_module_that_is_not_there"].install == "a-module-that-is-not-there"
    assert missing["a_module.that_is_not_there"].needed_for == "workers=2"
    assert any(reason.startswith("runtime broken: plugin_kit_that_is_not_there") for reason in found["broken"])
    assert found["usable"] > 20


def test_a_module_inside_an_installed_package_is_a_part_of_it():
    assert observed._is_part("harness._a_part_that_nobody_built")
    assert not observed._is_part("a_module_that_is_not_there._part")
    assert not observed._is_part("harness")


@pytest.mark.parametrize(
    ("module", "installable"),
    [
        ("envpool", "reactorbench[envpool]"),
        ("pygame", "reactorbench[multi-agent]"),
        ("cv2", "opencv-python-headless"),
        ("ale_py", "ale-py"),
        ("nobody_knows.this", "nobody-knows"),
    ],
)
def test_pip_is_given_the_extra_that_brings_a_module(module, installable):
    assert registry.installable(module) == installable


def test_settings_are_read_from_the_tree_of_the_kernel(tmp_path):
    cpu, clock = "sys/devices/system/cpu", "sys/devices/system/clocksource/clocksource0"
    files = {
        f"{cpu}/cpu0/cpufreq/scaling_driver": "intel_pstate\n",
        f"{cpu}/intel_pstate/no_turbo": "0\n",
        f"{clock}/current_clocksource": "hpet\n",
        f"{clock}/available_clocksource": "tsc hpet \n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    found = observed._observed_settings(Roots(sys=tmp_path / "sys", proc=tmp_path / "proc"))

    assert found["frequency_driver"] == "intel_pstate"
    assert found["turbo_file"] == "devices/system/cpu/intel_pstate/no_turbo"
    assert (found["clock_source"], found["clock_sources"]) == ("hpet", ("tsc", "hpet"))


def test_stolen_time_is_a_fraction_of_what_was_wanted():
    assert observed._stolen(Ticks(busy=100, steal=10), Ticks(busy=190, steal=20)) == 0.1
    assert observed._stolen(Ticks(busy=100, steal=10), Ticks(busy=100, steal=10)) == 0.0
    assert observed._stolen(None, Ticks(busy=100, steal=10)) is None


# ------------------------------------------------------------------------------------------- probes


def test_ticks_are_those_of_all_processors_without_idling(tmp_path):
    (tmp_path / "stat").write_text("cpu  1 2 3 1000 2000 4 5 6 0 0\ncpu0 9 9 9 9 9 9 9 9 9 9\n", encoding="ascii")

    assert probes.ticks(Roots(proc=tmp_path)) == Ticks(busy=15, steal=6)
    assert probes.ticks(Roots(proc=tmp_path / "nowhere")) is None


def test_swapped_pages_are_those_of_both_ways(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free 1\npswpin 3\npswpout 4\n", encoding="ascii")

    assert probes.swapped_pages(Roots(proc=tmp_path)) == 7
    assert probes.swapped_pages(Roots(proc=tmp_path / "nowhere")) is None


def test_the_busiest_are_summed_by_name_and_have_no_paths():
    before = {(1, 0.0): ("worker", 5.0), (2, 0.0): ("worker", 1.0), (3, 0.0): ("idle", 9.0)}
    after = {
        (1, 0.0): ("worker", 5.2),
        (2, 0.0): ("worker", 1.3),
        (3, 0.0): ("idle", 9.0),
        (4, 7.0): ("/home/alice/bin/tool", 0.1),
        (5, 0.0): ("kworker/0:1", 0.05),
    }

    found = [(one.name, one.processors) for one in probes.busiest(before, after, elapsed_s=0.5)]

    assert found == [("worker", 1.0), ("tool", 0.2), ("kworker", 0.1)]


def test_noise_tells_spread_from_drift():
    assert probes.noise_of([1.0] * 100) == Noise(loops=100, p50_s=1.0, p95_over_p50=1.0, second_over_first=1.0)
    spread = probes.noise_of([1.0] * 9 + [2.0] + [1.0] * 9 + [2.0])
    assert (spread.p95_over_p50, spread.second_over_first) == (2.0, 1.0)
    assert probes.noise_of([1.0] * 50 + [1.5] * 50).second_over_first == 1.5


def test_the_noise_probe_ends_when_its_time_is_over():
    now_s = 0.0

    def clock():
        nonlocal now_s
        now_s += 0.01
        return now_s

    noise = probes.timing_noise(1.0, clock)

    assert noise.loops == 100
    assert noise.p95_over_p50 == pytest.approx(1.0)


def test_a_clock_that_stands_still_for_a_while_shows_its_step():
    reads = 0

    def clock():
        nonlocal reads
        reads += 1
        return reads // 3 * 1e-3

    assert probes.clock_step_s(clock) == pytest.approx(1e-3)


def test_a_second_process_is_woken_up_and_gone_afterwards(monkeypatch):
    assert probes.wakeup_s(rounds=20) > 0

    monkeypatch.setattr(probes, "_ECHO", "raise SystemExit")
    assert probes.wakeup_s(rounds=20) is None

    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert probes.wakeup_s(rounds=20) is None


# ------------------------------------------------------------------------------------------ command


@pytest.fixture
def brief(monkeypatch):
    """Probes that take no time."""
    monkeypatch.setattr(observed, "_OTHERS_SAMPLE_S", 0.02)
    monkeypatch.setattr(observed, "_NOISE_S", 0.02)


def test_this_machine_can_be_looked_at(brief):
    told = []

    examination = examine(told.append)

    assert {one.check for one in examination.findings} | set(examination.unknown) == {c for c, *_ in FAULTS}
    assert len(told) == 4


def test_doctor_prints_json_and_nothing_else(brief, in_this_process, tmp_path):
    done = in_this_process("doctor", "--json")

    said = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"fingerprint", "fingerprint_digest", "findings", "unknown", "measured"} <= said.keys()
    assert {one["grade"] for one in said["findings"]} <= {"ok", "advice", "warning"}
    assert "runtime needy" in done.stdout
    assert said["measured"]["noise"]["loops"] >= 2
    assert list(tmp_path.iterdir()) == []


def test_doctor_is_content_to_have_warned(brief, in_this_process):
    done = in_this_process("doctor")

    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be used: runtime broken" in done.stdout
