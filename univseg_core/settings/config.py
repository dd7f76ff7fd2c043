"""What decides a training run: every setting, its default, range and meaning."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TYPE_CHECKING

from pydantic import (
    create_model,
    Field,
    field_validator,
    model_validator,
    StrictBool,
    StrictInt,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.domains import Domain, DomainError
from univseg_core.method.label_embeddings import default_basis
from univseg_core.method.losses import LARGE, Loss, LOSSES, MEAN
from univseg_core.models.encoders import encoder_channels, encoder_stride, ENCODERS
from univseg_core.models.pretrained import has_imagenet_weights, weights_named
from univseg_core.models.timm_encoder import EncoderError, is_of_timm, plan_of
from univseg_core.pictures.label_meaning import LabelMeaning
from univseg_core.settings.file import checked, override_setting, read_settings, Section
from univseg_core.settings.kinds import (
    ClassNames,
    ExistingFile,
    FILES_NEEDED,
    Folder,
    FOLDERS_NEEDED,
    Images,
    ModelFile,
    Number,
    Weights,
)
import yaml

if TYPE_CHECKING:  # a type checker cannot know what is in LAYOUTS
    DatasetName = str
else:
    DatasetName = Literal[('folder', *LAYOUTS)]


MANY = 10 ** 9
"""More steps or images than any run has."""

MOST_DOMAINS, MOST_FOLDERS = 1000, 10_000


class LabelledFolder(Section):
    """Images and their label maps, paired by file name without its ending."""

    images: Folder = Field(description='folder of images (png, jpg, …)')
    labels: Folder = Field(description='folder of label maps: PNG, one channel, class index, '
                                       '255 = void')
    background: str | None = Field(
        None, description='what index 0 of the label maps is: void, and 1 is the first class, or '
                          'a class, which the others follow in their order; asked for where a '
                          'palette begins with the colour of a background')
    painted: str | None = Field(
        None, description='what 255 is in label maps of 0 and 255 alone: void, or the class that '
                          'was painted; 0 is void then, or what background says; asked for where '
                          'there are no others')

    @property
    def meaning(self) -> LabelMeaning:
        """Return what the label maps do not tell of themselves."""
        return LabelMeaning(self.background, self.painted)


class DomainSection(Section):
    """One place: its label space and where its images are."""

    dataset: DatasetName = Field(
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
    classes: ClassNames = Field(
        None, validate_default=True,
        description='class names in index order, or a text file with one name a line; a data set '
                    'has its own')
    palette: list[tuple[int, int, int]] | None = Field(
        None, description="one [red, green, blue] a class; the data set's, or made, when left out")
    train: LabelledFolder | None = Field(
        None, validate_default=True, description='images to learn from, with labels')
    train_also: list[LabelledFolder] = Field(
        [], description='further folders of the kind of train, such as new labels beside old ones '
                        'that stay as they are; no name may be in two of them')
    validation_from_train: StrictInt | None = Field(
        None, ge=1, le=MANY,
        description='how many training images to set aside and measure with, in place of the '
                    'validation images: to choose settings by, or where there are no others; the '
                    'same ones for every seed')
    validation: LabelledFolder | None = Field(
        None, validate_default=True, description='images to measure with')
    labelled: StrictInt | None = Field(
        None, ge=1, le=MANY, description='how many training labels to use (N); all when left out')
    unlabelled: list[Images] = Field(
        [], max_length=MOST_FOLDERS,
        description='further images without labels: folders, ROS 2 bags (BAG, or BAG:TOPIC '
                    'where it has several topics of images) or videos')
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

    @field_validator('train', 'train_also', 'validation')
    @classmethod
    def _of_the_classes(cls, value: Any, info: ValidationInfo) -> Any:
        for folders in value if isinstance(value, list) else [value]:
            classes = info.data.get('classes')  # None where they are wrong themselves
            wrong = folders and classes and folders.meaning.wrong(classes)
            if wrong:
                raise ValueError(wrong)
        return value

    @field_validator('train_also')
    @classmethod
    def _beside_folders(cls, value: list, info: ValidationInfo) -> list:
        if value and info.data.get('dataset') in LAYOUTS:
            raise ValueError('only beside train, not with a dataset')
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
        layout = LAYOUTS.get(dataset) if dataset else None
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

    encoder: str = Field(
        'efficientnet_lite0', description='the encoder, by its name (docs/encoders.md has a '
                                          'table), or timm/NAME for any network of timm')
    width: Number = Field(
        1.0, ge=1 / 16, le=4, description="multiplier of the channels of a DRN or light; timm's "
                                          'networks have no other than 1')
    stride: Literal[4, 8] | None = Field(
        None, description="pixels from one of the encoder's features to the next: 8, or 4 for "
                          "networks of timm; the encoder's own when left out")
    pretrained: Weights | None = Field(
        None, description='weights that the encoder begins with: imagenet (from a package that '
                          "ships them, or by timm's download), none (random), or a local .pth, "
                          '.pt or .safetensors file as its authors published it; when left out, '
                          'imagenet for encoders that have them')
    start: ModelFile | None = Field(
        None, description='model file (NAME.univseg), folder of a finished run, or demo, the '
                          'small model that ships, to begin with: its encoder, embedding and the '
                          'heads of its domains that are trained here, too')
    embedding_dim: StrictInt = Field(
        128, ge=1, le=2 ** 16,
        description="dimension D of pixel and label embeddings, at most the encoder's channels")

    @field_validator('encoder')
    @classmethod
    def _known(cls, encoder: str) -> str:
        try:
            encoder_channels(encoder)
        except EncoderError as error:  # without timm
            raise ValueError(str(error)) from error
        return encoder

    @field_validator('width', 'stride', 'pretrained')
    @classmethod
    def _of_the_encoder(cls, value: Any, info: ValidationInfo) -> Any:
        encoder = info.data.get('encoder')  # None where that is wrong itself
        if encoder and info.field_name == 'width':
            encoder_channels(encoder, value)
        if encoder and info.field_name == 'stride':
            encoder_stride(encoder, value)
        if encoder and value == 'imagenet' and not has_imagenet_weights(encoder):
            raise ValueError(f'{encoder} has no ImageNet weights that could be found: name a file '
                             'of them, or none')
        return value

    @property
    def weights(self) -> str:
        """Return what an encoder begins with: imagenet, none, or the path of a file."""
        return weights_named(self.encoder, self.pretrained)


class DataSection(Section):
    """How images become training batches."""

    image_size: StrictInt | None = Field(
        None, ge=32, le=2 ** 13,
        description='longest side in pixels to which images are scaled, in training and on the '
                    'robot; as they are when left out')
    crop_size: StrictInt = Field(
        512, ge=32, le=2 ** 16, description='side of the square training crops in pixels')
    labelled_per_domain: StrictInt = Field(
        4, ge=1, le=2 ** 16, description='labelled crops of each domain in a batch')
    unlabelled_per_domain: StrictInt = Field(
        2, ge=1, le=2 ** 16,
        description='unlabelled crops of each domain in a batch; two or more to mix them, as '
                    'objective.consistency does')
    scale: tuple[Number, Number] = Field(
        (0.75, 1.5), description='range of the random scale')
    flip: StrictBool = Field(True, description='whether to mirror half of the crops')
    curriculum: list[tuple[Number, Number]] = Field(
        [], description='stages before the full size, each as [share of the steps, scale of '
                        'images and crops]: [[0.6, 0.5]] has the first 60 % at half the size')
    colour: Number = Field(
        0.3, ge=0, lt=1, description='strength of random brightness, contrast and saturation')

    @model_validator(mode='after')
    def _ordered(self) -> 'DataSection':
        if not 0.1 <= self.scale[0] <= self.scale[1] <= 10:
            raise ValueError(
                f'scale: expected 0.1 ≤ lowest ≤ highest ≤ 10, got {list(self.scale)}')
        if not all(share > 0 and 0.1 <= scale <= 1 for share, scale in self.curriculum) or sum(
                share for share, _ in self.curriculum) >= 1:
            raise ValueError('curriculum: expected [share, scale] with shares above 0 that sum to '
                             'less than 1, as the rest is at full size, and scales of 0.1 to 1, '
                             f'got {[list(stage) for stage in self.curriculum]}')
        return self


_weight_fields: dict[str, Any] = {
    loss.setting: Field(loss.default, ge=0, le=1000, description=loss.meaning)
    for loss in LOSSES if loss.setting}
_weights: dict[str, Any] = {
    key: (Number, field) for key, field in _weight_fields.items() if '.' not in key}
LossWeights = create_model('LossWeights', __base__=Section, **_weights)
"""The weights of all terms of the loss that have one; each term's entry says which it is."""


class DistillationSection(Section):
    """What a large model teaches: `univseg distill` names it here."""

    teacher: ModelFile | None = Field(
        None, description='model file (NAME.univseg), or folder of a finished run, of the same '
                          'domains and classes, to whose answers for crops the network is held; '
                          'none when left out')
    weight: Number = _weight_fields['distillation.weight']
    temperature: Number = Field(
        1.0, ge=0.1, le=100,
        description='what the logits of both are divided by: above 1, what it takes to be '
                    'unlikely counts for more')
    labelled: StrictBool = Field(
        False, description='whether it answers for the labelled crops, too, and not for the '
                           'unlabelled ones alone')


class ObjectiveSection(LossWeights):
    """
    What is learned besides labels, and how labels are weighed.

    The unsupervised terms of the paper (Eq 2 to 5), what may tie the embedding down, and ours.
    """

    warmup_steps: StrictInt = Field(
        1000, ge=0, le=MANY,
        description='steps over which the weights alpha, beta and consistency rise linearly from '
                    '0')
    similarity: Literal['dot_product', 'cosine'] = Field(
        'dot_product', description='of pixel with label embeddings; the dot product (the paper) '
                                   'can lower the entropy by longer embeddings alone')
    temperature: Number = Field(
        1.0, ge=1e-3, le=1000,
        description='what similarities are divided by; about 0.1 suits cosine')
    distillation: DistillationSection = DistillationSection()
    class_balance: Number = Field(
        0.5, ge=0, le=1, description='power of the inverse class frequency by which labelled '
                                     'pixels are weighed: 0 not at all, 1 all classes alike')
    full_resolution: StrictBool = Field(
        False, description='whether the entropy is that of each pixel, at many times the cost, '
                           'and not of each cell')

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each term, by the term's name."""
        return {loss.name: loss.weight(self) for loss in LOSSES}

    @property
    def active(self) -> list[Loss]:
        """Return the terms that have a weight."""
        return [loss for loss in LOSSES if loss.weight(self)]

    @property
    def needs_unlabelled(self) -> bool:
        """Return whether unlabelled images are learned from."""
        return any(loss.unlabelled for loss in self.active)

    @property
    def needs_label_embeddings(self) -> bool:
        """Return whether label embeddings are learned with."""
        return any(loss.label_embeddings for loss in self.active)

    @property
    def mixes(self) -> bool:
        """Return whether unlabelled crops are mixed, for which a mean teacher answers then."""
        return any(loss.teacher == MEAN for loss in self.active)

    @property
    def large_model(self) -> Path | None:
        """Return the file of the large model that teaches, where one does."""
        return self.distillation.teacher if any(
            loss.teacher == LARGE for loss in self.active) else None


class LabelEmbeddingSection(Section):
    """The label embeddings (paper, appendices A and B)."""

    pretrain_steps: StrictInt = Field(
        500, ge=1, le=MANY,
        description='steps of the supervised-only networks whose features they are made from')
    basis: Literal['pretrained', 'per_domain', 'joint', 'start'] | None = Field(
        None, description="pretrained: principal components of the pretrained encoder's own "
                          'features, without a further network; per_domain: a network and '
                          'principal components for each domain (the paper); joint: one network '
                          'and components for all, which the universal model then starts from; '
                          'start: the pixel embeddings of model.start; when left out, pretrained '
                          'where the encoder has such weights, else per_domain')
    centroids: StrictInt = Field(
        1, ge=1, le=1000, description='label embeddings of each class (K): its mean, or K-means')
    theta: Number = Field(
        1.0, ge=0, le=1, description='share that the label embeddings keep at an update by the '
                                     "labelled images' embeddings (Eq 7); 1 keeps them fixed")
    update_every: StrictInt | None = Field(
        None, ge=1, le=MANY,
        description='steps between these updates; an epoch, in which every image was seen, when '
                    'left out')
    networks: dict[str, ModelFile] | None = Field(
        None, description='model files of supervised-only networks, by domain, to be used instead '
                          'of training them')
    file: ExistingFile | None = Field(
        None, description='label_embeddings.safetensors of another run with the same domains, '
                          'to be used instead of making them')

    @model_validator(mode='after')
    def _from_one_source(self) -> 'LabelEmbeddingSection':
        named = [key for key in ('file', 'networks') if getattr(self, key) is not None]
        if len(named) == 2 or (named and self.basis not in (None, 'per_domain')):
            other = 'networks' if len(named) == 2 else f'basis: {self.basis}'
            raise ValueError(f'{named[0]}: cannot be used together with {other}')
        return self


class TrainingSection(Section):
    """The optimisation."""

    steps: StrictInt = Field(5000, ge=1, le=MANY, description='optimiser steps')
    optimizer: Literal['adamw', 'sgd'] = Field(
        'adamw', description='AdamW, or SGD with momentum (the paper)')
    learning_rate: Number = Field(3e-3, gt=0, le=10, description='peak learning rate')
    encoder_rate: Number = Field(
        0.3, gt=0, le=10, description='factor of the learning rate for the part of the encoder '
                                      'that has pretrained weights')
    encoder_statistics: Literal['free', 'frozen'] = Field(
        'free', description="whether batch norm of timm's pretrained networks goes by the crops "
                            'of a step in training, or keeps the statistics that it came with')
    momentum: Number = Field(0.9, ge=0, lt=1, description='momentum of SGD; AdamW has its own')
    weight_decay: Number = Field(
        1e-2, ge=0, le=10,
        description='weight decay: decoupled for AdamW, an L2 term for SGD')
    schedule: Literal['one_cycle', 'polynomial'] = Field(
        'one_cycle', description='learning rate over the steps: up to its peak and down to 0, or '
                                 '(1 − step/steps)^power (the paper)')
    power: Number = Field(0.9, gt=0, le=100, description='power of the polynomial schedule')
    seed: StrictInt = Field(
        0, ge=0, lt=2**32, description='decides splits, initial weights and batches')
    accelerator: Literal['auto', 'cpu', 'cuda'] = Field(
        'auto', description='where to train; auto takes CUDA where there is one')
    precision: Literal['32-true', 'bf16-mixed', '16-mixed'] = Field(
        '32-true', description='arithmetic of the forward and backward passes; bf16-mixed is '
                               'faster on recent GPUs, and for wide encoders on recent CPUs')
    accumulate: StrictInt = Field(
        1, ge=1, le=2 ** 16,
        description="pieces into which a process cuts its share of a step's batch, to need less "
                    'memory; each has its own batch-norm statistics')
    workers: StrictInt | None = Field(
        None, ge=0, le=128,
        description='processes that prepare batches, for each training process; 0 prepares them '
                    "in the loop; by the machine's facts when left out")
    validate_every: StrictInt = Field(500, ge=1, le=MANY, description='steps between validations')
    checkpoint_every: StrictInt = Field(
        200, ge=1, le=MANY,
        description='steps between checkpoints')
    loggers: list[Literal['wandb', 'mlflow']] = Field(
        [], description='tools that get the settings and figures of the run besides its own '
                        'files: wandb, mlflow (docs/runs.md says what they need, and where it '
                        'goes)')
    recognise: StrictBool = Field(
        True, description='whether the model files get evidence of their domains at the end, for '
                          'active_domains: auto and the like; it may take a minute, and '
                          '`univseg recognise` adds it later')


class RunConfig(Section):
    """Everything that decides a training run."""

    domains: dict[str, DomainSection] = Field(
        min_length=1, max_length=MOST_DOMAINS, description='the places, by name')
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    objective: ObjectiveSection = ObjectiveSection()
    label_embeddings: LabelEmbeddingSection = LabelEmbeddingSection()
    training: TrainingSection = TrainingSection()

    @model_validator(mode='after')
    def _check_together(self) -> 'RunConfig':
        for name in self.domains:
            self.domain(name)
        model = self.model
        if model.encoder not in ENCODERS:  # whether it can be built
            plan_of(model.encoder, encoder_stride(model.encoder, model.stride))
        self._check_dimension(encoder_channels(model.encoder, model.width),
                              f'the channels of {model.encoder} at width {model.width}')
        mixing = [loss for loss in self.objective.active if loss.teacher == MEAN]
        if mixing and self.data.unlabelled_per_domain < 2:
            key, weight = f'objective.{mixing[0].setting}', mixing[0].weight(self.objective)
            raise ValueError(
                f'data.unlabelled_per_domain: expected at least 2, which {key} ({weight:g}) mixes '
                f'with each other, got {self.data.unlabelled_per_domain}; or set {key} to 0')
        if self.label_embeddings.basis == 'start' and model.start is None:
            raise ValueError('label_embeddings.basis: start is of the model that a run starts '
                             'from: name it in model.start')
        if self.label_embeddings.basis == 'pretrained' and model.weights == 'none':
            raise ValueError('label_embeddings.basis: pretrained is of ImageNet weights, but '
                             f'{model.encoder} begins without any here: set '
                             'model.pretrained, or another basis')
        of_timm = is_of_timm(model.encoder)
        if of_timm and self.objective.needs_label_embeddings and self.basis == 'pretrained':
            plan = plan_of(model.encoder, encoder_stride(model.encoder, model.stride))
            self._check_dimension(
                sum(plan.channels), 'the channels that label_embeddings.basis: pretrained has of '
                                    f'{model.encoder}')
        begins = model.weights != 'none' or model.start is not None
        if self.training.encoder_statistics == 'frozen' and not (begins and of_timm):
            raise ValueError(
                'training.encoder_statistics: frozen is of networks of timm that begin with '
                f'weights, which {model.encoder} does not here')
        return self

    def _check_dimension(self, most: int, what: str) -> None:
        if self.model.embedding_dim > most:
            raise ValueError(f'model.embedding_dim: expected at most {most}, {what}, got '
                             f'{self.model.embedding_dim}')

    @property
    def basis(self) -> str:
        """Return what label embeddings are made from: label_embeddings.basis, or its default."""
        section = self.label_embeddings
        given = section.file is not None or section.networks is not None
        return section.basis or ('per_domain' if given else default_basis(self.model.weights))

    @property
    def loads_weights(self) -> bool:
        """Return whether any network of a run begins with published weights."""
        section, embeddings = self.label_embeddings, self.objective.needs_label_embeddings
        of_its_own = section.file is None and section.networks is None and self.basis in (
            'pretrained', 'per_domain')
        return self.model.weights != 'none' and (
            self.model.start is None or (embeddings and of_its_own))

    def domain(self, name: str) -> Domain:
        """Return one domain's label space; DomainError where it cannot be one."""
        section = self.domains[name]
        own = LAYOUTS.get(section.dataset, section)
        assert own.classes is not None  # without a dataset, they are not left out
        try:
            return Domain.create(name, own.classes, section.palette or own.palette)
        except DomainError as error:
            raise DomainError(f'domains.{name}: {error}') from None


def load_config(source: Path | str, overrides: Sequence[str] = (),
                files_needed: bool = True, folders_needed: bool = True) -> RunConfig:
    """
    Read a configuration file and change it by `overrides` such as 'training.steps=100'.

    `source` is a path, or the name of one that ships with the package, such as
    'train/camvid_nyuv2.yaml'. Paths in it may hold environment variables. `files_needed` says
    whether the model and weight files that it names have to be there, which a run that has begun
    does without, `folders_needed` whether folders of images do, which labels may yet have to be
    brought into.

    Raises ConfigError, which names the file, each offending key's path and what was expected.
    """
    path, values = read_settings(source, 'train')
    for override in overrides:
        override_setting(values, override)
    return checked(RunConfig, values, path, {FILES_NEEDED: files_needed,
                                             FOLDERS_NEEDED: folders_needed})


def dump_config(config: RunConfig) -> str:
    """Return a configuration as YAML, every default written out."""
    return yaml.safe_dump(config.model_dump(mode='json'), sort_keys=False, allow_unicode=True)
