"""A YAML file → a validated run configuration."""

from collections.abc import Sequence
import difflib
from importlib import resources
import os
from pathlib import Path
import re
from typing import Annotated, Any, get_args, get_origin, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError
from univseg_core.data.bags import is_bag
from univseg_core.data.layouts import LAYOUTS
from univseg_core.domains import Domain, DomainError
from univseg_core.errors import UnivsegError
from univseg_core.models.encoders import encoder_channels, ENCODERS
import yaml

SHIPPED = resources.files('univseg_core') / 'config_files'


class ConfigError(UnivsegError):
    """A configuration that cannot be used; the message names the key and what was expected."""


def _expand(path: Path) -> Path:
    """Put environment variables and ~ into a path."""
    def value(match: re.Match) -> str:
        name = match[1] or match[2]
        if name not in os.environ:
            raise ValueError(f'the environment variable {name} is not set')
        return os.environ[name]
    text = re.sub(r'\$(?:\{(\w+)\}|(\w+))', value, str(path))
    return Path(text).expanduser()


def _class_names(value: object) -> object:
    """Return class names, read from a file where a path is given."""
    if not isinstance(value, str):
        return value
    path = _expand(Path(value))
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise ValueError(f'cannot read {path}: {error.strerror}') from error
    return [line.strip() for line in lines if line.strip()]


def _folder(path: Path) -> Path:
    path = _expand(path)
    if not path.is_dir():
        raise ValueError(f'no such folder: {path}')
    return path.resolve()


def _file(path: Path) -> Path:
    path = _expand(path)
    if not path.is_file():
        raise ValueError(f'no such file: {path}')
    return path.resolve()


def _images(path: Path) -> Path:
    """Return a folder, a bag, or BAG:TOPIC, its path resolved."""
    path = _expand(path)
    bag, colon, topic = str(path).rpartition(':')
    if colon and not path.exists() and is_bag(Path(bag)):
        return Path(f'{Path(bag).resolve()}:{topic}')
    if not path.is_dir() and not is_bag(path):
        raise ValueError(f'no such folder: {path} (nor a ROS 2 bag)')
    return path.resolve()


Folder = Annotated[Path, AfterValidator(_folder)]
ExistingFile = Annotated[Path, AfterValidator(_file)]
Images = Annotated[Path, AfterValidator(_images)]


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


SettingsT = TypeVar('SettingsT', bound=Section)


class LabelledFolder(Section):
    """Images and their label maps, paired by file name without its ending."""

    images: Folder = Field(description='folder of images (png, jpg, …)')
    labels: Folder = Field(description='folder of label maps: PNG, one channel, class index, '
                                       '255 = void')


class DomainSection(Section):
    """One place: its label space and where its images are."""

    dataset: Literal[('folder', *LAYOUTS)] = Field(
        'folder', description='whose layout the files have: that of a published data set, which '
                              'root names, or folder: train and validation name them')
    root: Folder | None = Field(
        None, validate_default=True,
        description="the data set's folder, as its download unpacks; not with folder")
    held_out: Literal['val', 'test'] | None = Field(
        None, description="which of the data set's own parts to measure with, where it has both: "
                          'camvid has val, which is meant when left out, and test')
    extra: StrictBool = Field(
        False, description="whether the data set's own further images serve as unlabelled ones: "
                           'train_extra of cityscapes')
    classes: Annotated[list[str] | None, BeforeValidator(_class_names)] = Field(
        None, validate_default=True,
        description='class names in index order, or a text file with one name a line; a data set '
                    'has its own')
    palette: list[tuple[int, int, int]] | None = Field(
        None, description="one [red, green, blue] a class; the data set's, or made, when left out")
    train: LabelledFolder | None = Field(
        None, validate_default=True, description='images to learn from, with labels')
    validation_from_train: StrictInt | None = Field(
        None, ge=1, description='how many training images to set aside and measure with, in place '
                                'of the validation images: to choose settings by, or where there '
                                'are no others; the same ones for every seed')
    validation: LabelledFolder | None = Field(
        None, validate_default=True, description='images to measure with')
    labelled: StrictInt | None = Field(
        None, ge=1, description='how many training labels to use (N); all when left out')
    unlabelled: list[Images] = Field(
        [], description='further images without labels: folders, or ROS 2 bags (BAG, or '
                        'BAG:TOPIC where it has several topics of images)')
    labelled_also_unlabelled: StrictBool = Field(
        True, description='whether the N labelled images serve the unsupervised terms too')

    @field_validator('classes', 'train', 'validation')
    @classmethod
    def _of_folders(cls, value: object, info: ValidationInfo) -> object:
        dataset = info.data.get('dataset')  # None where that is wrong itself
        aside = info.field_name == 'validation' and info.data.get('validation_from_train')
        if dataset == 'folder' and value is None and not aside:
            raise PydanticCustomError('missing', 'missing')
        if dataset in LAYOUTS and value is not None:
            raise ValueError(f'{dataset} has its own; leave it out, or the dataset')
        return value

    @field_validator('validation_from_train')
    @classmethod
    def _in_place_of_others(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get('held_out'):
            raise ValueError('measures in place of held_out; leave one of them out')
        return value

    @field_validator('root', 'held_out', 'extra')
    @classmethod
    def _of_a_dataset(cls, value: object, info: ValidationInfo) -> object:
        dataset = info.data.get('dataset')
        if dataset == 'folder' and value:
            raise ValueError(f'only with a dataset ({", ".join(LAYOUTS)}), whose layout tells '
                             'what is where')
        layout = LAYOUTS.get(dataset)
        if layout and info.field_name == 'root' and value is None:
            raise PydanticCustomError('missing', 'missing')
        if layout and info.field_name == 'held_out' and value and value not in layout.held_out:
            raise ValueError(f'{dataset} has {" and ".join(layout.held_out)} alone, got {value}')
        if layout and info.field_name == 'extra' and value and layout.extra is None:
            raise ValueError(f'{dataset} has no further images; folders of others can be named '
                             'in unlabelled')
        return value


class ModelSection(Section):
    """The network."""

    encoder: Literal[ENCODERS] = Field('drn_d_22', description='the encoder')
    width: float = Field(
        1.0, ge=1 / 16, le=4, description="multiplier of the encoder's channels; 0.25 suits a "
                                          'small CPU; a ResNet has no other than 1')
    pretrained: ExistingFile | None = Field(
        None, description='ImageNet checkpoint of the encoder: a local .pth, .pt or .safetensors '
                          'file as its authors published it')
    start: ExistingFile | None = Field(
        None, description='model file (NAME.univseg) to begin with: its encoder, embedding and '
                          'the heads of its domains that are trained here, too')
    embedding_dim: StrictInt = Field(
        128, ge=1, description='dimension D of pixel and label embeddings')

    @field_validator('width')
    @classmethod
    def _of_the_encoder(cls, width: float, info: ValidationInfo) -> float:
        if 'encoder' in info.data:  # else its own problem is told
            encoder_channels(info.data['encoder'], width)
        return width


class DataSection(Section):
    """How images become training batches."""

    image_size: StrictInt | None = Field(
        None, ge=32, description='longest side in pixels to which images are scaled, in training '
                                 'and on the robot; as they are when left out')
    crop_size: StrictInt = Field(
        512, ge=32, description='side of the square training crops in pixels')
    labelled_per_domain: StrictInt = Field(
        4, ge=1, description='labelled crops of each domain in a batch')
    unlabelled_per_domain: StrictInt = Field(
        2, ge=1, description='unlabelled crops of each domain in a batch; two or more to mix '
                             'them, as objective.consistency does')
    scale: tuple[float, float] = Field(
        (0.75, 1.5), description='range of the random scale')
    flip: StrictBool = Field(True, description='whether to mirror half of the crops')
    colour: float = Field(
        0.3, ge=0, lt=1, description='strength of random brightness, contrast and saturation')

    @model_validator(mode='after')
    def _ordered(self) -> 'DataSection':
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise ValueError(
                f'scale: expected 0.1 ≤ lowest ≤ highest ≤ 10, got {list(self.scale)}')
        return self


class ObjectiveSection(Section):
    """
    What is learned besides labels, and how labels are weighed.

    The unsupervised terms of the paper (Eq 2 to 5), what may tie the embedding down, and ours.
    """

    alpha: float = Field(
        0.0, ge=0, description='weight of the cross-domain entropy (1 in the paper)')
    beta: float = Field(
        0.0, ge=0, description='weight of the within-domain entropy (1 in the paper)')
    warmup_steps: StrictInt = Field(
        1000, ge=0, description='steps over which the weights alpha, beta and consistency rise '
                                'linearly from 0')
    similarity: Literal['dot_product', 'cosine'] = Field(
        'dot_product', description='of pixel with label embeddings; the dot product (the paper) '
                                   'can lower the entropy by longer embeddings alone')
    temperature: float = Field(
        1.0, gt=0, description='what similarities are divided by; about 0.1 suits cosine')
    anchor: float = Field(
        0.0, ge=0, description='weight of the cross-entropy of labelled pixels against the label '
                               'embeddings of their domain, which ties the embedding to them')
    consistency: float = Field(
        1.0, ge=0, description='weight of the cross-entropy of mixed unlabelled crops against '
                               'what a mean teacher, the running mean of the network, makes of '
                               'them unmixed')
    class_balance: float = Field(
        0.5, ge=0, le=1, description='power of the inverse class frequency by which labelled '
                                     'pixels are weighed: 0 not at all, 1 all classes alike')
    full_resolution: StrictBool = Field(
        False, description='whether the entropy is that of each pixel, at many times the cost, '
                           'and not of each cell of 8×8')

    @property
    def needs_unlabelled(self) -> bool:
        """Return whether unlabelled images are learned from."""
        return bool(self.alpha or self.beta or self.consistency)

    @property
    def needs_label_embeddings(self) -> bool:
        """Return whether label embeddings are learned with."""
        return bool(self.alpha or self.beta or self.anchor)


class LabelEmbeddingSection(Section):
    """The label embeddings (paper, appendices A and B)."""

    pretrain_steps: StrictInt = Field(
        500, ge=1, description='steps of the supervised-only networks whose features they are '
                               'made from')
    basis: Literal['per_domain', 'joint', 'start'] = Field(
        'per_domain', description='a network and principal components for each domain (the '
                                  'paper); joint: one network and components for all, which the '
                                  'universal model then starts from; start: the pixel embeddings '
                                  'of model.start, without a further network')
    centroids: StrictInt = Field(
        1, ge=1, le=1000, description='label embeddings of each class (K): its mean, or K-means')
    theta: float = Field(
        1.0, ge=0, le=1, description='share that the label embeddings keep at an update by the '
                                     "labelled images' embeddings (Eq 7); 1 keeps them fixed")
    update_every: StrictInt | None = Field(
        None, ge=1, description='steps between these updates; an epoch, in which every image was '
                                'seen, when left out')
    networks: dict[str, ExistingFile] | None = Field(
        None, description='model files of supervised-only networks, by domain, to be used instead '
                          'of training them')
    file: ExistingFile | None = Field(
        None, description='label_embeddings.safetensors of another run with the same domains, '
                          'to be used instead of making them')

    @model_validator(mode='after')
    def _from_one_source(self) -> 'LabelEmbeddingSection':
        named = [key for key in ('file', 'networks') if getattr(self, key) is not None]
        if len(named) == 2 or (named and self.basis != 'per_domain'):
            other = 'networks' if len(named) == 2 else f'basis: {self.basis}'
            raise ValueError(f'{named[0]}: cannot be used together with {other}')
        return self


class TrainingSection(Section):
    """The optimisation."""

    steps: StrictInt = Field(5000, ge=1, description='optimiser steps')
    optimizer: Literal['adamw', 'sgd'] = Field(
        'adamw', description='AdamW, or SGD with momentum (the paper)')
    learning_rate: float = Field(3e-3, gt=0, description='peak learning rate')
    momentum: float = Field(0.9, ge=0, lt=1, description='momentum of SGD; AdamW has its own')
    weight_decay: float = Field(
        1e-2, ge=0, description='weight decay: decoupled for AdamW, an L2 term for SGD')
    schedule: Literal['one_cycle', 'polynomial'] = Field(
        'one_cycle', description='learning rate over the steps: up to its peak and down to 0, or '
                                 '(1 − step/steps)^power (the paper)')
    power: float = Field(0.9, gt=0, description='power of the polynomial schedule')
    seed: StrictInt = Field(
        0, ge=0, lt=2**32, description='decides splits, initial weights and batches')
    accelerator: Literal['auto', 'cpu', 'cuda'] = Field(
        'auto', description='where to train; auto takes CUDA where there is one')
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = Field(
        '32-true', description='arithmetic of the forward and backward passes; bf16-mixed is '
                               'faster on recent GPUs, and for wide encoders on recent CPUs')
    accumulate: StrictInt = Field(
        1, ge=1, description="pieces into which a process cuts its share of a step's batch, to "
                             'need less memory; each has its own batch-norm statistics')
    workers: StrictInt | None = Field(
        None, ge=0, description='processes that prepare batches, for each training process; 0 '
                                "prepares them in the loop; by the machine's facts when left out")
    validate_every: StrictInt = Field(500, ge=1, description='steps between validations')
    checkpoint_every: StrictInt = Field(200, ge=1, description='steps between checkpoints')


class RunConfig(Section):
    """Everything that decides a training run."""

    domains: dict[str, DomainSection] = Field(
        min_length=1, description='the places, by name')
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    objective: ObjectiveSection = ObjectiveSection()
    label_embeddings: LabelEmbeddingSection = LabelEmbeddingSection()
    training: TrainingSection = TrainingSection()

    @model_validator(mode='after')
    def _check_together(self) -> 'RunConfig':
        for name in self.domains:
            self.domain(name)
        channels = encoder_channels(self.model.encoder, self.model.width)
        if self.model.embedding_dim > channels:
            raise ValueError(
                f'model.embedding_dim: expected at most {channels}, the channels of '
                f'{self.model.encoder} at width {self.model.width}, got '
                f'{self.model.embedding_dim}')
        if self.objective.consistency and self.data.unlabelled_per_domain < 2:
            raise ValueError(
                'data.unlabelled_per_domain: expected at least 2, which objective.consistency '
                f'({self.objective.consistency:g}) mixes with each other, got '
                f'{self.data.unlabelled_per_domain}; or set objective.consistency to 0')
        if self.label_embeddings.basis == 'start' and self.model.start is None:
            raise ValueError('label_embeddings.basis: start is of the model that a run starts '
                             'from: name it in model.start')
        return self

    def domain(self, name: str) -> Domain:
        """Return one domain's label space; DomainError where it cannot be one."""
        section = self.domains[name]
        own = LAYOUTS.get(section.dataset, section)
        try:
            return Domain.create(name, own.classes, section.palette or own.palette)
        except DomainError as error:
            raise DomainError(f'domains.{name}: {error}') from None


def load_config(source: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """
    Read a configuration file and change it by `overrides` such as 'training.steps=100'.

    `source` is a path, or the name of one that ships with the package, such as
    'train/camvid_nyuv2.yaml'. Paths in it may hold environment variables.

    Raises ConfigError, which names the file, each offending key's path and what was expected.
    """
    path, values = read_settings(source, 'train')
    for override in overrides:
        override_setting(values, override)
    return checked(RunConfig, values, path)


def read_settings(source: Path | str, kind: str) -> tuple[Path, dict[str, Any]]:
    """
    Return the path and plain values of a YAML file, found as a path or by its name.

    Files that ship lie in the folder `kind` ('train', 'experiments'): 'train/scenes.yaml' and
    'scenes' name the same one. Raises ConfigError where there is none, or where it is no mapping
    or has a key twice.
    """
    shipped = SHIPPED / kind
    for path in (Path(source), SHIPPED / str(source), shipped / f'{source}.yaml'):
        if path.is_file():
            break
    else:
        names = sorted(f'{kind}/{file.name}' for file in shipped.iterdir())
        raise ConfigError(f'{source}: no such file; configurations that ship: '
                          f'{", ".join(names)}')
    path = Path(str(path))  # a resource's, too
    try:
        values = yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path}: expected keys and values, such as "domains:"')
    return path, values


class _Loader(yaml.SafeLoader):
    """Read plain values; the last of two equal keys does not silently replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f'the key {key.value!r} is there twice',
                                           problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def checked(model: type[SettingsT], values: dict[str, Any], source: Path) -> SettingsT:
    """Return plain values as a section; ConfigError names `source` and every key at fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = '\n'.join(f'  {_explain(problem, model)}' for problem in error.errors())
        raise ConfigError(f'{source}:\n{problems}') from None


def dump_config(config: RunConfig) -> str:
    """Return a configuration as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode='json'), sort_keys=False, allow_unicode=True)


def override_setting(values: dict[str, Any], override: str) -> None:
    """Change plain values in place by a text such as 'training.steps=100'."""
    key, equals, text = override.partition('=')
    if not equals or not key:
        raise ConfigError(f'override {override!r}: expected KEY=VALUE, such as '
                          'training.steps=100')
    *parents, last = key.split('.')
    for parent in parents:
        if values.get(parent) is None:  # not there, or left empty
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise ConfigError(f'override {override!r}: {parent} has no keys below it')
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f'override {override!r}: {text!r} is not a YAML value') from error


def _explain(problem: dict[str, Any], model: type[Section]) -> str:
    """Return one of pydantic's findings as 'key.path: what was expected, got what'."""
    key = '.'.join(str(part) for part in problem['loc'])
    if problem['type'] == 'extra_forbidden':
        valid = _valid_keys(problem['loc'][:-1], model)
        close = difflib.get_close_matches(str(problem['loc'][-1]), valid, n=1)
        hint = f'; did you mean {close[0]}?' if close else ''
        return f'{key}: unknown key{hint} (valid keys: {", ".join(valid)})'
    if problem['type'] == 'missing':
        return f'{key}: this key is missing'
    if problem['type'] == 'value_error':
        # Those of the whole configuration name their key themselves.
        return ': '.join(filter(None, [key, str(problem['ctx']['error'])]))
    return f'{key}: {problem["msg"]}, got {problem["input"]!r}'


def _valid_keys(location: Sequence[str | int], model: type[Section]) -> list[str]:
    section: Any = model
    for part in location:
        if get_origin(section) is dict:
            section = get_args(section)[1]
        else:
            annotation = section.model_fields[part].annotation
            section = section_of(annotation) or annotation
    return list(section.model_fields)


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section that a field's annotation is, or is beside null; else None."""
    kinds = () if get_origin(annotation) is dict else (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)),
                None)
