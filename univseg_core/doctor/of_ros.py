"""Checks of ROS 2: what the node needs, and what most often keeps images from coming."""

from collections.abc import Mapping
from importlib import resources
from importlib.util import find_spec
import os
from pathlib import Path
import sys

from univseg_core.doctor.finding import Facts, Finding
from univseg_core.doctor.of_packages import version_of
from univseg_core.doctor.probes import MESSAGES, missing
from univseg_core.machine.fast_dds import FAST_DDS_2, FAST_DDS_3, profile_variable, SHIPPED

DISTRIBUTIONS = Path('/opt/ros')
"""Where distributions lie that a package manager installed."""

USUAL_MIDDLEWARE = 'rmw_fastrtps_cpp'
WHEELS = 'jazzy'
"""The distribution that the wheels of the extra `ros` are of."""

LARGEST_DOMAIN, LARGEST_SAFE_DOMAIN = 232, 101
"""Of ROS_DOMAIN_ID: above the one ports run out, above the other they may be the system's own."""


def ros(facts: Facts) -> Finding:
    """Find out whether there is a ROS that this Python can import."""
    found, environ = facts.imports['rclpy'], facts.environ
    values = {'distribution': environ.get('ROS_DISTRO'), 'from': _origin(),
              'error': found.error, **found.facts}
    if not found.there:
        return _without_ros(environ, values)
    if lacking := missing(MESSAGES):
        return Finding('bad', f'rclpy is there, but not {", ".join(lacking)}',
                       "pip install '.[ros]'" if _is_of_wheels(environ)
                       else f'sudo apt install {_packages(lacking, environ)}', values)
    if found.error:
        return Finding('bad', f'rclpy ({_origin()}) or its messages cannot be imported: '
                       f'{found.error}', _mended(found.error, environ), values)
    return Finding('ok', f'{_whose(environ)}, from {_origin()}', facts=values)


def _without_ros(environ: Mapping[str, str], values: Mapping) -> Finding:
    python = f'{sys.version_info[0]}.{sys.version_info[1]}'
    if environ.get('ROS_DISTRO'):
        return Finding('bad', f'ROS {environ["ROS_DISTRO"]} is sourced, but its rclpy is not for '
                       f'this Python ({python}, {sys.executable})',
                       '/usr/bin/python3 -m venv --system-site-packages .venv', values)
    found = sorted(DISTRIBUTIONS.glob('*/setup.bash')) if DISTRIBUTIONS.is_dir() else []
    if found:
        return Finding('bad', f'{", ".join(path.parent.name for path in found)} is installed, '
                       'and not sourced', f'source {found[-1]}', values)
    return Finding('bad', 'rclpy is not installed', "pip install '.[ros]'", values)


def _mended(error: str, environ: Mapping[str, str]) -> str:
    """Return what may make an import possible that has failed."""
    if 'numpy' in error.lower() or '_ARRAY_API' in error:
        return 'pip install -c constraints-ros.txt --force-reinstall numpy opencv-python'
    if 'rmw' in error.lower() and environ.get('RMW_IMPLEMENTATION'):
        return 'unset RMW_IMPLEMENTATION'
    return ("pip install --force-reinstall '.[ros]'" if _is_of_wheels(environ)
            else f'source {DISTRIBUTIONS / _distribution(environ)}/setup.bash')


def _origin() -> str | None:
    """Return the folder of rclpy's packages."""
    found = find_spec('rclpy')
    return str(Path(found.origin).parent.parent) if found and found.origin else None


def _is_of_wheels(environ: Mapping[str, str]) -> bool:
    return version_of('ros-rclpy') is not None and not environ.get('ROS_DISTRO')


def _distribution(environ: Mapping[str, str]) -> str:
    return environ.get('ROS_DISTRO') or WHEELS


def _packages(modules: list[str], environ: Mapping[str, str]) -> str:
    """Return what a package manager calls packages of ROS."""
    return ' '.join(f'ros-{_distribution(environ)}-{name.replace("_", "-")}' for name in modules)


def _whose(environ: Mapping[str, str]) -> str:
    if _is_of_wheels(environ):
        return f'wheels (rclpy {version_of("ros-rclpy")}, {WHEELS})'
    workspaces = [path for path in environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if path]
    return f'{environ.get("ROS_DISTRO") or "a distribution"}, {len(workspaces)} prefixes sourced'


def optional_messages(facts: Facts) -> Finding:
    """Find out whether packages are there that add outputs to the node."""
    if not facts.imports['rclpy'].there:
        return Finding('ok', 'without ROS there are none')
    names = {'vision_msgs': 'label_info, by which costmaps know the classes',
             'bondpy': "bonds of Nav2's lifecycle manager"}
    lacking = missing(names)
    if not lacking:
        return Finding('ok', f'{" and ".join(names)} are there')
    return Finding('ok', 'the node does without '
                   + ' and '.join(f'{name} ({names[name]})' for name in lacking),
                   '' if _is_of_wheels(facts.environ)  # there are none of these
                   else f'sudo apt install {_packages(lacking, facts.environ)}',
                   {'missing': lacking})


def numpy(facts: Facts) -> Finding:
    """Find out whether NumPy is one that ROS's own modules were built for."""
    version = version_of('numpy')
    values = {'version': version, 'from': (found := find_spec('numpy')) and found.origin}
    if version is None:
        return Finding('bad', 'NumPy is not installed', 'pip install numpy', values)
    expected = '2.3' if sys.version_info >= (3, 14) else '1'
    of_distribution = facts.imports['rclpy'].there and not _is_of_wheels(facts.environ)
    if of_distribution and not f'{version}.'.startswith(f'{expected}.'):
        return Finding('warn', f'{version} ({values["from"]}), but the binaries of this ROS, such '
                       f'as cv_bridge, were built for NumPy {expected}',
                       'pip install -c constraints-ros.txt numpy opencv-python', values)
    return Finding('ok', version, facts=values)


def middleware(facts: Facts) -> Finding:
    """Find out which middleware ROS takes, and in which domain."""
    asked = facts.environ.get('RMW_IMPLEMENTATION', '')
    taken = facts.imports['rclpy'].facts.get('middleware')
    domain = facts.environ.get('ROS_DOMAIN_ID', '')
    values = {'RMW_IMPLEMENTATION': asked or None, 'taken': taken,
              'ROS_DOMAIN_ID': domain or None}
    if domain and not (domain.isascii() and domain.isdecimal()
                       and int(domain) <= LARGEST_DOMAIN):
        return Finding('bad', f'ROS_DOMAIN_ID={domain}: expected a whole number, 0 to '
                       f'{LARGEST_SAFE_DOMAIN}', 'export ROS_DOMAIN_ID=0', values)
    text = f'{taken or asked or USUAL_MIDDLEWARE}, ROS_DOMAIN_ID={domain or "0 (not set)"}'
    if int(domain or 0) > LARGEST_SAFE_DOMAIN:
        return Finding('warn', f'{text}: above {LARGEST_SAFE_DOMAIN}, ports may be those that '
                       'the system gives to others', 'export ROS_DOMAIN_ID=0', values)
    return Finding('ok', text, facts=values)


def dds_profile(facts: Facts) -> Finding:
    """Find out whether Fast DDS is told to carry large images."""
    if not facts.imports['rclpy'].there:
        return Finding('ok', 'without ROS, none is needed')
    environ = facts.environ
    used = environ.get('RMW_IMPLEMENTATION') or USUAL_MIDDLEWARE
    shipped = shipped_profile(environ)
    variable = profile_variable(_distribution(environ))
    given = {name: environ[name] for name in (FAST_DDS_2, FAST_DDS_3) if environ.get(name)}
    values = {'variables': given, 'shipped': shipped and str(shipped)}
    if 'fastrtps' not in used:
        return Finding('ok', f'{used} has no profiles of Fast DDS', facts=values)
    fix = f'export {variable}={shipped or f"/path/of/config/ros/{SHIPPED}"}'
    if variable in given:
        if Path(given[variable]).is_file():
            return Finding('ok', f'{variable}={given[variable]}', facts=values)
        return Finding('warn', f'{variable}={given[variable]}: there is no such file', fix, values)
    if given:
        name = next(iter(given))
        return Finding('warn', f'{name} is set, but {_distribution(environ)} reads {variable}',
                       fix, values)
    return Finding('warn', f'{variable} is not set: between processes, most images of more than '
                   '0.5 MB get lost (docs/setups.md)', fix, values)


def shipped_profile(environ: Mapping[str, str]) -> Path | None:
    """Return the file of the profile for large images, where this package was installed to."""
    inside = Path('share', 'univseg_ros', 'config', 'ros')
    prefixes = [*filter(None, environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    folders = [Path(str(resources.files('univseg_core'))) / 'config_files' / 'ros',
               *(Path(prefix) / inside for prefix in prefixes)]
    return next((folder / SHIPPED for folder in folders if (folder / SHIPPED).is_file()), None)
