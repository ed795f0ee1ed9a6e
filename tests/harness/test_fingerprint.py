"""The fingerprint of machines that are not there: trees of files as their kernels show them."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.fingerprint import Fingerprint, Roots, differences, fingerprint

CPU = "sys/devices/system/cpu"
CLOCKS = "sys/devices/system/clocksource/clocksource0/available_clocksource"


def planted(folder, files, architecture="x86_64", system="Linux"):
    """A machine whose kernel shows these files, `sys/...` and `proc/...`."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Roots(sys=folder / "sys", proc=folder / "proc", architecture=architecture, system=system)


def processors(siblings, **more):
    """The files of processors, each with those of its core."""
    files = {f"{CPU}/cpu{number}/topology/thread_siblings_list": f"{text}\n" for number, text in enumerate(siblings)}
    return files | {f"{CPU}/cpu{n}/cpufreq/{name}": v for n in range(len(siblings)) for name, v in more.items()}


def caches(*sizes):
    """Files of the caches of processor 0: level, type and size of each."""
    return {
        f"{CPU}/cpu0/cache/index{index}/{name}": f"{value}\n"
        for index, size in enumerate(sizes)
        for name, value in zip(("level", "type", "size"), size, strict=True)
    }


BARE_METAL = {
    **processors(["0,2", "1,3", "0,2", "1,3"], scaling_governor="schedutil\n"),
    **caches((1, "Data", "32K"), (1, "Instruction", "64K"), (2, "Unified", "512K"), (3, "Unified", "32M")),
    f"{CPU}/smt/active": "1\n",
    f"{CPU}/cpufreq/boost": "1\n",
    "sys/devices/system/node/node0/cpulist": "0-3\n",
    "sys/class/dmi/id/sys_vendor": "ASUS\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD Ryzen 5  5600X\nflags\t\t: fpu sse2\n",
    "proc/meminfo": "MemTotal:       16302804 kB\nMemFree: 1 kB\n",
    "proc/self/status": "Name:\tpython\nCpus_allowed_list:\t0-3\n",
    "proc/self/cgroup": "0::/user.slice/alice.scope\n",
    "sys/fs/cgroup/user.slice/alice.scope/cpu.max": "max 100000\n",
}
KVM_GUEST = {
    **processors(["0", "1"]),
    **caches((1, "Data", "32K"), (2, "Unified", "1024K")),
    f"{CPU}/smt/active": "0\n",
    CLOCKS: "tsc kvm-clock \n",
    "proc/cpuinfo": "model name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse2\n",
    "proc/meminfo": "MemTotal:       24684096 kB\n",
    "proc/self/status": "Cpus_allowed_list:\t1\n",
    "proc/self/cgroup": "2:cpuset:/\n1:cpu:/\n0::/\n",
}
CONTAINER = BARE_METAL | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}
ARM = {
    **processors(["0", "1", "2", "3"], scaling_governor="performance\n"),
    f"{CPU}/smt/control": "notimplemented\n",
    "sys/devices/system/node/node0/cpulist": "0-1\n",
    "sys/devices/system/node/node1/cpulist": "2-3\n",
    "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\nFeatures\t: fp asimd\n",
    "proc/meminfo": "MemTotal:       8000000 kB\n",
    "proc/self/status": "Cpus_allowed_list:\t0,2-3\n",
}


def test_a_machine_of_its_own_shows_smt_boost_governor_and_caches(tmp_path):
    assert fingerprint(planted(tmp_path, BARE_METAL)) == Fingerprint(
        architecture="x86_64",
        cpu_model="AMD Ryzen 5 5600X",
        physical_cores=2,
        processors=4,
        affinity="0-3",
        smt="on",
        l1d_kib=32,
        l2_kib=512,
        l3_kib=32768,
        memory_gib=16,
        numa_nodes=1,
        hypervisor="none",
        cpu_quota=None,
        governor="schedutil",
        turbo="on",
    )


def test_a_guest_knows_its_hypervisor_and_no_clock_speed(tmp_path):
    found = fingerprint(planted(tmp_path, KVM_GUEST))

    assert (found.hypervisor, found.governor, found.turbo) == ("kvm", None, None)
    assert (found.affinity, found.processors, found.physical_cores, found.smt) == ("1", 1, 2, "off")
    # Caches are those of a processor that is used.
    assert (found.l1d_kib, found.l3_kib, found.memory_gib) == (None, None, 24)


def test_a_container_has_the_machine_of_its_host_and_a_quota(tmp_path):
    host = fingerprint(planted(tmp_path / "host", BARE_METAL))

    found = fingerprint(planted(tmp_path / "container", CONTAINER))

    assert found == msgspec.structs.replace(host, cpu_quota=1.5)


def test_an_arm_machine_is_known_by_numbers(tmp_path):
    found = fingerprint(planted(tmp_path, ARM, architecture="aarch64"))

    assert (found.architecture, found.cpu_model) == ("aarch64", "implementer 0x41, part 0xd0c")
    assert (found.affinity, found.processors, found.physical_cores) == ("0,2-3", 3, 4)
    assert (found.smt, found.numa_nodes, found.governor, found.hypervisor) == ("off", 2, "performance", None)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        # The names of groups may be those outside of the container.
        ({"proc/self/cgroup": "0::/../outside\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        # The least of all around counts.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n",
            },
            1.0,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"sys/fs/cgroup/cpu.max": "100000 0\n"}, None),
    ],
)
def test_the_quota_is_that_of_either_version_of_control_groups(tmp_path, files, quota):
    assert fingerprint(planted(tmp_path, files)).cpu_quota == quota


@pytest.mark.parametrize(
    ("files", "hypervisor"),
    [
        ({"proc/cpuinfo": "flags : sse2\n", "sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}, "none"),
        ({"proc/cpuinfo": "flags : hypervisor\n", "sys/class/dmi/id/sys_vendor": "VMware, Inc.\n"}, "vmware"),
        ({"proc/cpuinfo": "flags : hypervisor\n", "sys/class/dmi/id/product_name": "alices-laptop\n"}, "other"),
        ({"proc/cpuinfo": "flags : hypervisor\n", CLOCKS: "hyperv_clocksource_tsc_page acpi_pm\n"}, "hyperv"),
        ({"sys/hypervisor/type": "xen\n"}, "xen"),
        ({"sys/firmware/devicetree/base/hypervisor/compatible": "linux,kvm\0"}, "kvm"),
        ({"sys/class/dmi/id/sys_vendor": "Ampere\n"}, "none"),
        ({}, None),
    ],
)
def test_the_hypervisor_is_known_by_flag_clock_firmware_or_device_tree(tmp_path, files, hypervisor):
    assert fingerprint(planted(tmp_path, files)).hypervisor == hypervisor


@pytest.mark.parametrize(
    ("files", "turbo"),
    [
        ({f"{CPU}/intel_pstate/no_turbo": "0\n"}, "on"),
        ({f"{CPU}/intel_pstate/no_turbo": "1\n"}, "off"),
        ({f"{CPU}/cpufreq/boost": "0\n"}, "off"),
        ({f"{CPU}/cpu0/cpufreq/boost": "1\n"}, "on"),
        ({f"{CPU}/cpufreq/boost": "perhaps\n"}, None),
    ],
)
def test_turbo_is_read_from_whichever_switch_there_is(tmp_path, files, turbo):
    assert fingerprint(planted(tmp_path, files)).turbo == turbo


def test_nothing_readable_is_all_none(tmp_path):
    assert fingerprint(planted(tmp_path, {}, architecture="")) == Fingerprint()


def test_other_systems_have_at_least_their_processors(tmp_path):
    found = fingerprint(planted(tmp_path, BARE_METAL, architecture="arm64", system="Darwin"))

    assert found.architecture == "arm64"
    assert found.processors
    assert (found.affinity, found.governor) == (None, None)


@settings(max_examples=40)  # each writes dozens of files
@given(st.dictionaries(st.sampled_from(sorted({*BARE_METAL, *KVM_GUEST, *CONTAINER, *ARM})), st.text(max_size=40)))
def test_no_content_of_the_files_raises(tmp_path_factory, files):
    msgspec.json.encode(fingerprint(planted(tmp_path_factory.mktemp("tree"), BARE_METAL | files)))


def test_differences_are_sentences_that_name_both_values(tmp_path):
    here = fingerprint(planted(tmp_path, BARE_METAL))
    there = msgspec.structs.replace(here, memory_gib=32, cpu_quota=1.5, governor=None)

    assert differences(there, here) == [
        "memory_gib: 32 there, 16 here",
        "cpu_quota: 1.5 there, none here",
        "governor: unknown there, schedutil here",
    ]
    assert differences(here, here) == []


def test_a_fingerprint_from_a_record_is_compared_in_the_fields_that_it_has(tmp_path):
    here = fingerprint(planted(tmp_path, BARE_METAL))
    stored = msgspec.json.decode(msgspec.json.encode(here))
    assert differences(stored, here) == []
    del stored["turbo"]
    stored["processors"] = 2

    assert differences(stored, here) == ["processors: 2 there, 4 here"]


def test_the_digest_is_the_same_everywhere_and_another_for_any_other_field(tmp_path):
    one = fingerprint(planted(tmp_path, KVM_GUEST))

    # Stored beside results: it may never change by itself.
    assert one.digest() == "8f7dbc1174af"
    others = [msgspec.structs.replace(one, **{name: "?"}).digest() for name in Fingerprint.__struct_fields__]
    assert len({one.digest(), *others}) == len(others) + 1


def test_the_fingerprint_here_names_nobody_and_is_the_same_twice():
    one = fingerprint()

    assert one == fingerprint()
    # All texts are of a known form, but for the name of the processor.
    assert {one.smt, one.turbo} <= {"on", "off", None}
    assert re.fullmatch(r"[a-z]+", one.hypervisor or "none")
    assert re.fullmatch(r"[a-z_, ]+", one.governor or "none")
    assert re.fullmatch(r"[0-9,-]+", one.affinity or "0")
