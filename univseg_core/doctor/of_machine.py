"""Checks of the machine: processor, GPU, memory, disks."""

import os
from pathlib import Path
import platform
import shutil

from univseg_core.doctor.finding import Facts, Finding, GB

SHARED_MEMORY = Path('/dev/shm')

LEAST_SHARED = 80e6
"""Bytes that two processes with the profile for large images take, and a little more."""

LITTLE_MEMORY = 2 * GB
LITTLE_DISK, LEAST_DISK = 5 * GB, 0.2 * GB
"""Bytes with which a training may come to its end, and with which none does."""


def size(count: float) -> str:
    """Return bytes in the unit that fits."""
    return f'{count / GB:.1f} GB' if count >= GB else f'{count / 1e6:.0f} MB'


def cpu(facts: Facts) -> Finding:
    """Find out how many cores there are, and what they are good at."""
    from univseg_core.machine.processors import (
        cpu_cores,
        cpu_name,
        instruction_sets,
        is_good_at_bf16,
    )

    cores, name, sets = cpu_cores(), cpu_name(), instruction_sets()
    values = {'cores': cores, 'name': name, 'instruction_sets': sets, 'bf16': is_good_at_bf16()}
    text = (f'{name or platform.machine()}, {cores} core{"s" * (cores > 1)}'
            + (f'; {", ".join(sets)}' if sets else '')
            + f'; bf16 is {"faster" if values["bf16"] else "not faster"} than float32')
    if platform.machine().lower() in ('x86_64', 'amd64') and sets and 'AVX2' not in sets:
        return Finding('warn', f'{text}; without AVX2 networks are slow',
                       'univseg benchmark MODEL', values)
    return Finding('ok', text, facts=values)


WHEELS = ((11, 8), (12, 4), (12, 6), (12, 8), (13, 0))
"""The versions of CUDA, in order, that PyTorch's index has wheels for."""


def gpu(facts: Facts) -> Finding:
    """Find out which GPUs there are, and whether PyTorch can use them."""
    from univseg_core.machine.gpus import cuda_gpus

    gpus, torch = cuda_gpus(), facts.imports['torch']
    said = torch.facts
    values = {'driver': [{'name': gpu.name, 'capability': gpu.capability, 'cuda': gpu.driver}
                         for gpu in gpus],
              'torch': {key: said.get(key) for key in ('cuda', 'cuda_usable', 'gpus', 'mps')}}
    if not gpus:
        mps = '; MPS is there, which univseg does not use' if said.get('mps') else ''
        return Finding('ok', f'no GPU of NVIDIA: everything runs on the CPU{mps}', facts=values)
    text = ', '.join(f'{gpu.name} (compute capability {gpu.capability})' for gpu in gpus)
    if not torch.usable or said.get('cuda_usable'):
        return Finding('ok', f'{text}; the driver runs CUDA up to {gpus[0].driver}', facts=values)
    built = (f'is built for CUDA {said["cuda"]}, the driver runs CUDA up to {gpus[0].driver}'
             if said.get('cuda') else 'is built without CUDA')
    fitting = [cuda for cuda in WHEELS if cuda <= tuple(map(int, gpus[0].driver.split('.')))]
    if not fitting:
        return Finding('warn', f'{text}; PyTorch cannot use it: it {built}',
                       "update NVIDIA's driver", values)
    wheels = f'cu{"".join(map(str, fitting[-1]))}'
    return Finding('warn', f'{text}; PyTorch cannot use it: it {built}',
                   'pip install --force-reinstall torch torchvision --index-url '
                   f'https://download.pytorch.org/whl/{wheels}', values)


def memory(facts: Facts) -> Finding:
    """Find out how much memory may still be taken."""
    from univseg_core.machine.resources import available_memory

    free = available_memory()
    if free < LITTLE_MEMORY:
        return Finding('warn', f'{size(free)} free: a training checks what it needs before it '
                       'begins', 'univseg train CONFIG data.crop_size=160 training.accumulate=2',
                       {'free': free})
    return Finding('ok', f'{size(free)} free', facts={'free': free})


def shared_memory(facts: Facts) -> Finding:
    """Find out how large /dev/shm is, by which images and batches go to other processes."""
    try:
        found = shutil.disk_usage(SHARED_MEMORY)
    except OSError as error:
        return Finding('warn', f'{SHARED_MEMORY} cannot be used ({error.strerror}): images go to '
                       'other processes more slowly, and large ones get lost',
                       f'sudo mount -t tmpfs -o size=1g tmpfs {SHARED_MEMORY}')
    values = {'size': found.total, 'free': found.free}
    text = f'{size(found.free)} of {size(found.total)} free'
    if found.free < LEAST_SHARED:
        fix = ('docker run --shm-size=1g …' if Path('/.dockerenv').exists()
               else f'sudo mount -o remount,size=1g {SHARED_MEMORY}')
        return Finding('warn', f'{text}: too little for images between processes (32 MB each, '
                       'by the DDS profile) and for batches of workers', fix, values)
    return Finding('ok', text, facts=values)


def disk(facts: Facts) -> Finding:
    """Find out how much room there is where runs and extracted data sets go."""
    from univseg_core.datasets.cache import cache_folder

    folders = {'here': Path.cwd(), 'cache': cache_folder()}
    values = {name: {'folder': str(path), **_room(path)} for name, path in folders.items()}
    text = '; '.join(f'{name} ({each["folder"]}): {size(each["free"])} free'
                     for name, each in values.items())
    closed = [each['folder'] for each in values.values() if not each['writable']]
    if closed:
        return Finding('warn', f'{text}; nothing can be written to {" and ".join(closed)}',
                       'univseg train CONFIG --run /a/folder/of/yours, and '
                       'export UNIVSEG_CACHE=/another', values)
    least = min(each['free'] for each in values.values())
    if least < LITTLE_DISK:
        return Finding('bad' if least < LEAST_DISK else 'warn',
                       f'{text}; runs and data sets take some GB',
                       'export UNIVSEG_CACHE=/a/larger/disk', values)
    return Finding('ok', text, facts=values)


def _room(folder: Path) -> dict:
    """Return the bytes that are free where a folder is, or will be made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return {'free': shutil.disk_usage(there).free, 'writable': os.access(there, os.W_OK)}
