"""
`univseg` commands in forks of one process, which imports for all of them what takes seconds.

`warm_commands.py serve FD` takes them from a listening socket; `warm_commands.py run NAME …` sends
one to the abstract socket NAME, and ends with the command's exit status. What the command prints
goes where the server's output goes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import socket
import subprocess
import sys


@contextmanager
def warm_univseg(script: Path, output: Path, environment: dict[str, str]) -> Iterator[None]:
    """Write a script `univseg` that has a server run its commands, and start the server."""
    name = f'univseg-{os.getpid()}'
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} run {name} "$@"\n')
    script.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening, output.open('wb') as file:
        listening.bind(f'\0{name}')
        listening.listen()
        server = subprocess.Popen(
            [sys.executable, __file__, 'serve', str(listening.fileno())], env=environment,
            pass_fds=[listening.fileno()], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        server.kill()
        server.wait()


def serve(listening: socket.socket) -> None:
    """Run the commands that come, one after the other, until this process is ended."""
    import lightning.fabric  # noqa: F401
    from univseg_core.cli import main
    from univseg_core.training import run  # noqa: F401

    while True:
        connection, _ = listening.accept()
        with connection:
            folder, arguments = json.loads(connection.recv(65536))
            child = os.fork()
            if not child:
                os.chdir(folder)
                sys.exit(main(arguments))
            _, status = os.waitpid(child, 0)
            connection.send(bytes([os.waitstatus_to_exitcode(status) & 255]))


def send(name: str, arguments: list[str]) -> int:
    """Have a command run here, and return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(f'\0{name}')
        connection.send(json.dumps([str(Path.cwd()), arguments]).encode())
        return (connection.recv(1) or b'\1')[0]


if __name__ == '__main__':
    if sys.argv[1] == 'serve':
        serve(socket.socket(fileno=int(sys.argv[2])))
    sys.exit(send(sys.argv[2], sys.argv[3:]))
