"""
The process that measures one row of a benchmark, or the machine's ceiling.

    python -m univseg_core.benchmarking.worker '{"measure": "frames", "threads": 1, …}'

Its one argument is a job as JSON: `measure` is one of MEASURES, `threads` the CPU cores that it
may use, `began` the time at which it was started (Unix, seconds); all else is for what measures.
It writes a line of JSON to standard output when it is ready, and one for each line on standard
input, which holds the seconds that a turn may take. It ends with standard input.
"""

from importlib import import_module
import json
import os
import sys

MEASURES = ('frames', 'ceiling', 'operations')

THREADS = ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS',
           'VECLIB_MAXIMUM_THREADS', 'NUMEXPR_NUM_THREADS')
"""Environment variables by which libraries learn how many threads they may start."""


def restrict_to(threads: int) -> None:
    """
    Let this process, and libraries that it has not imported yet, use so many CPU cores alone.

    Where the system has no affinity, only the libraries are restricted.
    """
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    """Do what the argument says."""
    job = json.loads(sys.argv[1])
    out = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)  # what a library prints must not come among the lines
    restrict_to(job['threads'])
    assert job['measure'] in MEASURES

    from univseg_core.errors import UnivsegError

    try:
        # Only now: it imports what is restricted.
        measurement = import_module(f'univseg_core.benchmarking.{job["measure"]}').begin(job)
    except UnivsegError as error:
        print(json.dumps({'error': str(error)}), file=out, flush=True)
        return
    print(json.dumps(measurement.ready), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(measurement.turn(float(line))), file=out, flush=True)


if __name__ == '__main__':
    main()
