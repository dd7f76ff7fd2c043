"""How a run learns: the network, how images become batches, and the optimisation."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator, StrictBool, StrictInt, ValidationInfo
from univseg_core.models.encoders import encoder_channels, encoder_stride
from univseg_core.models.pretrained import has_imagenet_weights, weights_named
from univseg_core.models.timm_encoder import EncoderError
from univseg_core.settings.file import Section
from univseg_core.settings.kinds import MANY, ModelFile, Number, Weights


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
