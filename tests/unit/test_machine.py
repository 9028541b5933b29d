"""Claims about `machine`: what a process may use is the least that anybody above it allows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dct_celery.errors import MachineUnfit, ResourceException
from dct_celery.machine import Machine, look, processor_ticks, size, slots_of

MIB, GIB = 2**20, 2**30


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 8 cores with 16 GiB, 10 of them free, without control groups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    write(
        tmp_path, "proc/meminfo", f"MemTotal: {16 << 20} kB\nMemAvailable: {10 << 20} kB\nHuge:\n"
    )
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def group(root: Path, folder: str, **files: str) -> None:
    """Files of a control group; "_" stands for the "." in their names."""
    for name, text in files.items():
        write(root, f"sys/fs/cgroup/{folder}/{name.replace('_', '.', 1)}", text)


class TestLook:
    def test_without_control_groups_the_machine_is_what_there_is(self, root: Path) -> None:
        assert look(root) == Machine(8, 16 * GIB, 10 * GIB)

    def test_affinity_counts_and_not_what_the_machine_has(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
        assert look(root).cores == 1

    def test_a_limit_of_version_2_holds_wherever_above_it_is_set(self, root: Path) -> None:
        # Given limits on the group itself, on the one above, and none on top
        write(root, "proc/self/cgroup", "0::/jobs/one\n")
        group(root, "jobs/one", memory_max="max\n", memory_current="5", cpu_max="max 100000\n")
        group(
            root,
            "jobs",
            memory_max=f"{2 * GIB}\n",
            memory_current=f"{GIB}\n",
            memory_stat=f"anon 1\ninactive_file {GIB // 2}\n",
            cpu_max="150000 100000\n",
        )
        # When / Then files in the cache are not used memory, and half a core is one to be busy
        assert look(root) == Machine(2, 2 * GIB, GIB + GIB // 2)

    def test_a_limit_of_version_1_holds(self, root: Path) -> None:
        # Given
        write(root, "proc/self/cgroup", "4:memory:/box\n2:cpu,cpuacct:/box\n9:name=systemd:/box\n")
        group(
            root,
            "memory/box",
            memory_limit_in_bytes=f"{3 * GIB}\n",
            memory_usage_in_bytes=f"{2 * GIB}\n",
            memory_stat=f"total_inactive_file {GIB}\n",
        )
        group(root, "cpu/box", cpu_cfs_quota_us="300000\n", cpu_cfs_period_us="100000\n")
        # When / Then
        assert look(root) == Machine(3, 3 * GIB, 2 * GIB)

    def test_no_limit_of_version_1_is_a_number_as_well(self, root: Path) -> None:
        # Given
        write(root, "proc/self/cgroup", "4:memory:/\n2:cpu:/\n")
        group(
            root,
            "memory",
            memory_limit_in_bytes="9223372036854771712\n",
            memory_usage_in_bytes="1\n",
        )
        group(root, "cpu", cpu_cfs_quota_us="-1\n", cpu_cfs_period_us="100000\n")
        # When / Then
        assert look(root) == Machine(8, 16 * GIB, 10 * GIB)

    def test_in_a_container_the_path_may_be_that_of_the_host(self, root: Path) -> None:
        # Given a path that is not there, and the container's own group where the top one is
        write(root, "proc/self/cgroup", "0::/../kubepods/pod7\n")
        group(root, "", memory_max=f"{GIB}\n", memory_current="0\n", cpu_max="50000 100000\n")
        # When / Then
        assert look(root) == Machine(1, GIB, GIB)

    def test_a_group_over_its_limit_has_nothing_free(self, root: Path) -> None:
        write(root, "proc/self/cgroup", "0::/\n")
        group(root, "", memory_max=f"{GIB}\n", memory_current=f"{2 * GIB}\n")
        assert look(root).free == 0

    def test_the_machine_of_this_test_can_be_looked_at(self) -> None:
        # When
        found = look()
        # Then
        assert 1 <= found.cores <= len(os.sched_getaffinity(0))
        assert 0 < found.free <= found.memory


class TestSlots:
    @pytest.mark.parametrize(
        ("cores", "free", "count", "reason"),
        [
            (2, 8 * GIB, 2, "2 slots: 2 cores"),
            (1, 8 * GIB, 1, "1 slot: 1 core"),
            (2, 800 * MIB, 2, "2 slots: 2 cores"),
            (8, 1229 * MIB, 3, "3 of 8 slots: 1.2 GiB of memory free, 400 MiB a slot"),
            (8, 10 * MIB, 1, "1 of 8 slots: 10 MiB of memory free, 400 MiB a slot"),
        ],
    )
    def test_a_slot_per_core_as_far_as_memory_goes(
        self, cores: int, free: int, count: int, reason: str
    ) -> None:
        slots = slots_of(Machine(cores, 16 * GIB, free), 400 * MIB)
        assert (slots.count, slots.reason) == (count, reason)

    def test_a_limit_below_one_slot_is_refused_in_one_line(self) -> None:
        with pytest.raises(ResourceException) as caught:
            slots_of(Machine(4, 256 * MIB, 200 * MIB), 400 * MIB)
        assert type(caught.value) is MachineUnfit
        assert caught.value.exit_code == 4
        assert "has 256 MiB of memory, and one slot takes 400 MiB; raise" in str(caught.value)


def test_processors_are_busy_with_all_but_idling_and_waiting(tmp_path: Path) -> None:
    write(tmp_path, "proc/stat", "cpu  10 1 20 600 60 2 3 4 9 9\ncpu0 5 0 1 2 3 4 5 6 7 8\n")
    assert processor_ticks(tmp_path) == (40, 700)


@pytest.mark.parametrize(("number", "text"), [(0, "0 MiB"), (GIB, "1.0 GiB"), (3 * MIB, "3 MiB")])
def test_sizes_are_for_people(number: int, text: str) -> None:
    assert size(number) == text
