"""What the tests of `univseg` commands share."""

from univseg_core.cli import main


def assert_fails(capsys, arguments, *messages):
    """Check the exit status and that stderr has one line with all of these, and no traceback."""
    assert main(list(map(str, arguments))) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    (line,) = (line for line in lines if 'image/s' not in line)  # but for the progress bar
    assert line.startswith(f'univseg {arguments[0]}: ')
    for message in messages:
        assert message in line
