"""Places that were found → a configuration of its own keys, with what each means."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import errno
import os
from pathlib import Path
import shlex
from typing import Any

import numpy as np
from univseg_core.datasets.folders import are_masks, LABEL_SUFFIX, labelled_samples, spread
from univseg_core.domains import Domain
from univseg_core.errors import told_with, UnivsegError
from univseg_core.files import new_file, read_lines
from univseg_core.machine.gpus import cuda_gpus, Gpu
from univseg_core.pictures.images import fit_size, PlainLabels, read_codes, read_image
from univseg_core.pictures.label_meaning import LabelMeaning, VOID, WHERE_TO_SAY
from univseg_core.pictures.palette_png import png_palette
from univseg_core.pictures.picture_files import file_bytes, ImageError
from univseg_core.places.found import Pair, Pictures, Place, PlacesError
from univseg_core.progress import progress_bar
from univseg_core.settings.config import load_config
from univseg_core.settings.explanation import commented_yaml
from univseg_core.settings.file import ConfigError, read_settings

RECIPES = {'cpu': 'camvid_nyuv2', 'gpu': 'camvid_nyuv2_gpu'}
"""The configurations that ship whose settings a new one has."""

LARGEST_ON_GPU = 640
"""Longest side, in pixels, to which images are scaled for a GPU."""

LOOKED_AT = 12
"""Label maps of a folder that are tried."""

FEW = 50
"""Label maps that are read without a bar of progress."""

MOST_ASIDE, SHARE_ASIDE = 100, 5
"""Labelled images that are set aside to measure with: at most, and one of how many."""

MOST_UNNAMED = 64
"""Classes without names: label maps with higher indices are none, or need a list."""

NOT_NAMED = 'No list of class names was found: put names, in the order of the indices, into'


@dataclass(frozen=True)
class NewConfiguration:
    """A configuration that was written: for which `recipe`, and how many images of each part."""

    recipe: str
    domains: Mapping[str, Mapping[str, Any]]


def write_configuration(path: Path, places: Sequence[Place],
                        meaning: LabelMeaning) -> NewConfiguration:
    """
    Write a configuration of some places, with what each key means; nothing where it cannot be.

    `meaning` says what the label maps do not tell. Raises PlacesError for label maps that are no
    index maps, or that raise a question, with the option that answers it; FileExistsError where
    there is a file of that name, be it made meanwhile.
    """
    if os.path.lexists(path):  # told before label maps are read
        raise FileExistsError(errno.EEXIST, 'there is one already', str(path))
    found = {place.name: _domain(place, meaning) for place in places}
    gpus = cuda_gpus()
    recipe = 'gpu' if gpus else 'cpu'
    values = {'domains': {name: section for name, (section, _) in found.items()},
              **_settings(gpus, [size for _, size in found.values()])}
    quoted = shlex.quote(str(path))
    head = [f'# Places: {", ".join(found)}. Settings as in train/{RECIPES[recipe]}.yaml, for '
            + ('a GPU.' if recipe == 'gpu' else 'a CPU.'),
            f'#   univseg data check {quoted}          are images and labels as they should be?',
            f'#   univseg train {quoted}               then learn from them',
            '# All keys: univseg config explain; all settings: univseg config show '
            f'{quoted}', '']
    if unnamed := [f'domains.{place.name}.classes' for place in places
                   if place.pairs['train'][0].classes is None]:
        head.insert(-1, f'# {NOT_NAMED} {", ".join(unnamed)}.')
    text = '\n'.join(head) + commented_yaml(values)
    with new_file(path) as temporary:
        temporary.write_text(text, encoding='utf-8')
        try:
            load_config(temporary)
        except ConfigError as error:
            _, *problems = str(error).splitlines()
            raise PlacesError(f'{path}: {"; ".join(map(str.strip, problems))}') from error
    counts = map(_counts, places, values['domains'].values())
    return NewConfiguration(recipe, dict(zip(found, counts, strict=True)))


def _counts(place: Place, section: Mapping[str, Any]) -> dict[str, Any]:
    labelled = sum(_labelled(pair) for pair in place.pairs['train'])
    aside = section.get('validation_from_train', 0)
    return {'classes': len(section['classes']) if isinstance(section['classes'], list)
            else len(read_lines(section['classes'])),
            'labelled': labelled - aside,
            'validation': aside or sum(_labelled(pair) for pair in place.pairs['validation'][:1]),
            'unlabelled': [str(folder) for folder in place.unlabelled]}


def _labelled(pair: Pair) -> int:
    return len(pair.images.keys & pair.labels.label_keys)


def _domain(place: Place, meaning: LabelMeaning
            ) -> tuple[dict[str, Any], tuple[int, int]]:
    """Return a place's section, and the (height, width) of an image of it."""
    train = place.pairs.get('train')
    if not train:
        there = ', '.join(str(pair.images.path) for several in place.pairs.values()
                          for pair in several)
        raise PlacesError(f'{place.name}: no labelled images to learn from, only {there}; call '
                          'a folder of them train')
    held_out = place.pairs.get('validation') or place.pairs.get('test')
    if held_out:
        place.pairs['validation'] = held_out
    pair = train[0]
    names = _names([*train, *(held_out or [])[:1]], meaning)
    with told_with(pair.classes or pair.labels.path):
        domain = Domain.create(place.name, names)
        if wrong := meaning.wrong(names):
            raise PlacesError(f'--{wrong}')
    palette = None
    for each in (*train, *(held_out or [])[:1]):
        palette = _checked(each, domain, meaning) or palette
    labelled = sum(map(_labelled, train))
    section: dict[str, Any] = {
        'classes': str(pair.classes) if pair.classes else list(names)}
    if palette:
        section['palette'] = palette
    section['train'] = _folders(pair, meaning)
    if len(train) > 1:
        section['train_also'] = [_folders(each, meaning) for each in train[1:]]
    if held_out:
        section['validation'] = _folders(held_out[0], meaning)
    elif labelled < 2:
        raise PlacesError(f'{pair.images.path}: one labelled image; expected two or more, to '
                          'learn from and to measure with')
    else:
        section['validation_from_train'] = min(MOST_ASIDE, max(1, labelled // SHARE_ASIDE))
    if place.unlabelled:
        section['unlabelled'] = list(map(str, place.unlabelled))
    height, width = read_image(pair.images.files[0]).shape[:2]
    return section, (height, width)


def _folders(pair: Pair, meaning: LabelMeaning) -> dict[str, str]:
    said = {'background': meaning.background, 'painted': meaning.painted}
    return {'images': str(pair.images.path), 'labels': str(pair.labels.path),
            **{key: value for key, value in said.items() if value is not None}}


def _names(pairs: Sequence[Pair], meaning: LabelMeaning) -> list[str]:
    """Return the names of classes: those of a list, or as many as label maps have indices."""
    listed = pairs[0].classes
    if listed is not None:
        try:
            names = read_lines(listed)
        except (OSError, ValueError) as error:
            raise PlacesError(f'{listed}: cannot be read as class names: {error}') from error
        if not names:
            raise PlacesError(f'{listed}: expected one class name a line, got none')
        return names
    if meaning.is_mask:
        return [name for name in (meaning.background, meaning.painted)
                if name not in (None, VOID)]  # type: ignore[misc]
    highest = max(_highest(pair.labels) for pair in pairs)
    if highest < 0:
        raise PlacesError(f'{pairs[0].labels.path}: no list of class names (classes.txt) lies '
                          'beside it, and its label maps are void everywhere')
    first = 1 if meaning.background == VOID else 0
    return [f'class_{index}' for index in range(first, highest + 1)]


def _highest(labels: Pictures) -> int:
    """Return the highest index of all label maps of a folder, -1 where all is void."""
    highest = -1
    maps = [file for file in labels.files if file.suffix.lower() == LABEL_SUFFIX]
    for file in progress_bar(maps, f'classes of {labels.path.name}', leave=False,
                             disable=len(maps) <= FEW):
        try:
            codes = read_codes(file)
        except ImageError as error:
            raise PlacesError(f'{error}; docs/labelling.md tells how label maps are '
                              'made') from error
        highest = max([highest, *np.flatnonzero(np.bincount(codes.ravel())[:255]).tolist()])
        if highest >= MOST_UNNAMED:
            raise PlacesError(
                f'{file}: no list of class names (classes.txt) lies beside its folder, and its '
                f'values go up to {highest}, more than classes without names may be')
    return highest


def _checked(pair: Pair, domain: Domain, meaning: LabelMeaning) -> list[list[int]] | None:
    """
    Return the colours that label maps have for a domain's classes, None where there are none.

    Raises PlacesError where they are no label maps of it, or raise a question.
    """
    try:
        samples = labelled_samples(pair.images.path, pair.labels.path)
        labels = [sample.label for sample in samples if sample.label is not None]
        if meaning.painted is None and are_masks(labels):
            raise PlacesError(f'{pair.labels.path}: each of the {len(labels)} label maps '
                              f'{meaning.question_of_mask(domain.classes)}')
        for label in spread(labels, LOOKED_AT):
            PlainLabels(meaning)(label, domain)
    except UnivsegError as error:
        raise PlacesError(str(error).removesuffix(WHERE_TO_SAY)) from error
    return _palette(labels[0], domain, meaning)


def _palette(label: Path, domain: Domain, meaning: LabelMeaning) -> list[list[int]] | None:
    colours = png_palette(file_bytes(label))
    if colours is None or meaning.is_mask or (colours == colours[:, :1]).all():
        return None
    table = meaning.classes_of_indices(domain).tolist()
    indices = [table.index(i) for i in range(len(domain.classes))]
    if max(indices) >= len(colours):
        return None
    palette = colours[indices].tolist()
    return palette if len(set(map(tuple, palette))) == len(palette) else None


def _settings(gpus: Sequence[Gpu], sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return the other sections of a configuration, fitted to images of (height, width) each."""
    _, values = read_settings(RECIPES['gpu' if gpus else 'cpu'], 'train')
    del values['domains']
    most = min(max(map(max, sizes)), values['data'].get('image_size') or LARGEST_ON_GPU)
    shorter = min(min(fit_size(*size, most)) for size in sizes)
    values['data'] |= {'image_size': max(32, most), 'crop_size': max(32, shorter // 32 * 32)}
    oldest = min((float(gpu.capability) for gpu in gpus), default=8)
    if oldest < 8:  # without bf16
        values['training']['precision'] = '16-mixed' if oldest >= 7 else '32-true'
    return values
