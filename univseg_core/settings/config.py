"""A training run's configuration: all sections, checked against each other; read and written."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.domains import Domain, DomainError
from univseg_core.method.label_embeddings import default_basis
from univseg_core.method.losses import MEAN
from univseg_core.models.encoders import encoder_channels, encoder_stride, ENCODERS
from univseg_core.models.timm_encoder import is_of_timm, plan_of
from univseg_core.settings.domains import DomainSection
from univseg_core.settings.file import checked, override_setting, read_settings, Section
from univseg_core.settings.kinds import FILES_NEEDED, FOLDERS_NEEDED
from univseg_core.settings.learning import DataSection, ModelSection, TrainingSection
from univseg_core.settings.objective import LabelEmbeddingSection, ObjectiveSection
import yaml

MOST_DOMAINS = 1000


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
