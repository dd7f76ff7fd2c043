"""MATLAB's files: the small ones by SciPy, those of version 7.3, which are HDF5, by h5py."""

from collections.abc import Iterator
from contextlib import contextmanager
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from univseg_core.datasets.folders import DataError
from univseg_core.files.limits import RECORDS

if TYPE_CHECKING:
    import h5py


@contextmanager
def opened(path: Path) -> Iterator['h5py.File']:
    """
    Open a file of version 7.3 for reading.

    Raises DataError where h5py is not installed, or where the file is missing, damaged or not of
    this version, also when that shows while it is read.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(f'{path}: reading it needs h5py: pip install h5py') from error
    try:
        with h5py.File(path, 'r') as file:
            yield file
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f'{path}: no such file') from error
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(f'{path}: not a whole file of MATLAB 7.3 with what the data set has in '
                        f'it; an incomplete download? ({error})') from error


def load_small(path: Path, name: str) -> np.ndarray:
    """Return an array of a file of version 5, structures as objects; raise DataError."""
    from scipy.io import loadmat, whosmat  # comes with scikit-learn

    try:
        sizes = {key: math.prod(shape) for key, shape, _ in whosmat(path)}
        if 8 * sizes.get(name, 0) > RECORDS():
            raise DataError(f'{path}: {name}: {sizes[name]} values, more than {RECORDS}')
        return loadmat(path, squeeze_me=True, struct_as_record=False, variable_names=[name])[name]
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f'{path}: no such file') from error
    except Exception as error:  # SciPy raises whatever a damaged file leads it to
        raise DataError(f'{path}: not a whole MATLAB file with the variable {name}; an '
                        f'incomplete download? ({type(error).__name__}: {error})') from error
