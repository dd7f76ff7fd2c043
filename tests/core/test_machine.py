"""The machine's facts, as its files tell them, and the number of workers."""

import os

import pytest
from univseg_core.machine import processors
from univseg_core.machine import resources as machine
from univseg_core.machine.processors import cpu_cores
from univseg_core.machine.resources import available_memory, choose_workers, in_threads

MEMINFO = 'MemTotal:       24000 kB\nMemFree:         1000 kB\nMemAvailable:    {} kB\n'


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Return a function that lays out a machine's files: paths below / and their texts."""
    monkeypatch.setattr(machine, 'PROC', tmp_path / 'proc')
    monkeypatch.setattr(machine, 'CGROUPS', tmp_path / 'sys/fs/cgroup')

    def write(files):
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
    return write


def version_2(group, limit, used, inactive=0):
    """Return the memory files of a control group of version 2."""
    top = f'sys/fs/cgroup{group}'
    return {f'{top}/memory.max': f'{limit}\n', f'{top}/memory.current': f'{used}\n',
            f'{top}/memory.stat': f'anon 7\nactive_file 9\ninactive_file {inactive}\n'}


def version_1(group, limit, used, inactive=0):
    """Return the memory files of a control group of version 1."""
    top = f'sys/fs/cgroup/memory{group}'
    return {f'{top}/memory.limit_in_bytes': f'{limit}\n',
            f'{top}/memory.usage_in_bytes': f'{used}\n',
            f'{top}/memory.stat': f'inactive_file 3\ntotal_inactive_file {inactive}\n'}


UNLIMITED_1 = 9223372036854771712
PLAIN = {'proc/meminfo': MEMINFO.format(20_000), 'proc/self/cgroup': '0::/\n'}
DEEP_2 = {**PLAIN, 'proc/self/cgroup': '0::/jobs/7\n'}
DEEP_1 = {**PLAIN, 'proc/self/cgroup': '5:cpu:/x\n4:cpuset,memory:/jobs/7\n0::/\n'}
ALL = 20_000 * 1024


@pytest.mark.parametrize(('files', 'expected'), [
    (PLAIN, ALL),
    ({'proc/meminfo': MEMINFO.format(20_000)}, ALL),
    ({**PLAIN, **version_2('', 10_000, 4000, 500)}, 6500),
    ({**PLAIN, **version_2('', 'max', 4000)}, ALL),
    ({**PLAIN, **version_2('', 10**12, 4000)}, ALL),
    ({**PLAIN, **version_2('', 10_000, 12_000)}, 0),
    ({**DEEP_2, **version_2('/jobs/7', 10_000, 4000)}, 6000),
    ({**DEEP_2, **version_2('/jobs/7', 'max', 4000), **version_2('/jobs', 9000, 4000)}, 5000),
    ({**DEEP_2, **version_2('/jobs/7', 9000, 1000), **version_2('/jobs', 9000, 4000)}, 5000),
    ({**DEEP_2, **version_2('/jobs/8', 9000, 1000)}, ALL),
    ({**DEEP_2, **version_2('', 9000, 1000)}, 8000),  # seen from within a container
    ({**DEEP_1, **version_1('/jobs/7', 10_000, 4000, 500)}, 6500),
    ({**DEEP_1, **version_1('/jobs/7', UNLIMITED_1, 4000)}, ALL),
    ({**DEEP_1, **version_1('', 10_000, 4000)}, 6000),
    ({**DEEP_1, **version_1('/x', 10_000, 4000)}, ALL),
], ids=lambda value: value if isinstance(value, int) else '')
def test_available_memory_is_the_machines_or_the_groups(system, files, expected):
    system(files)
    assert available_memory() == expected


def test_without_proc_all_memory_counts(system, monkeypatch):
    monkeypatch.setattr(os, 'sysconf', {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': 1000}.get)
    assert available_memory() == 4_096_000


def test_this_machine_has_memory_and_cores():
    everything = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    assert 0 < available_memory() <= everything
    assert 1 <= cpu_cores() <= os.cpu_count()


@pytest.mark.parametrize(('cores', 'cuda', 'processes', 'in_memory', 'workers', 'reason'), [
    (16, True, 2, True, 7, 'CPU cores: 16, training processes: 2, CUDA'),
    (16, True, 2, False, 7, 'CPU cores: 16, training processes: 2, CUDA'),
    (64, True, 1, True, 8, 'CPU cores: 64, training processes: 1, CUDA'),
    (6, True, 1, True, 5, 'CPU cores: 6, training processes: 1, CUDA'),
    (1, True, 1, True, 1, 'CPU cores: 1, training processes: 1, CUDA'),
    (4, True, 8, True, 1, 'CPU cores: 4, training processes: 8, CUDA'),
    (16, False, 1, True, 0, 'everything in memory, training on the CPU'),
    (16, False, 4, False, 1, 'images read from disk, training on the CPU'),
])
def test_workers_follow_from_the_machine(monkeypatch, cores, cuda, processes, in_memory, workers,
                                         reason):
    told = []
    monkeypatch.setattr(machine, 'cpu_cores', lambda: cores)
    # Not caplog: where launch is installed, its loggers do not propagate.
    monkeypatch.setattr(machine.log, 'info', lambda text, *values: told.append(text % values))
    assert choose_workers(None, cuda, processes, in_memory) == workers
    for asked in (0, 3):
        assert choose_workers(asked, cuda, processes, in_memory) == asked
    assert told == [f'workers: {workers} ({reason})', 'workers: 0 (training.workers)',
                    'workers: 3 (training.workers)']


def test_threads_keep_the_order_and_hand_on_errors(monkeypatch):
    monkeypatch.setattr(machine, 'cpu_cores', lambda: 3)
    results = in_threads(lambda number: 60 // number, [1, 2, 3, 0, 5], 'divide', progress=False)
    assert [next(results) for _ in range(3)] == [60, 30, 20]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_of_items_that_are_made_one_by_one_few_are_held(monkeypatch):
    monkeypatch.setattr(machine, 'cpu_cores', lambda: 3)
    made = []
    results = in_threads(str, (made.append(number) or number for number in range(100)), 'count',
                         progress=False)
    for number in range(100):
        assert next(results) == str(number)
        assert len(made) <= number + 2 * 3 + 1
    assert list(results) == []


def test_instruction_sets_are_known_by_whole_words(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, 'CPUINFO', tmp_path / 'cpuinfo')
    assert processors.instruction_sets() == []
    processors.CPUINFO.write_text('flags\t\t: fpu avx avx2 avx512_vnni amx_tile xbf16\n')
    assert processors.instruction_sets() == ['AVX2', 'AVX-512 VNNI']
