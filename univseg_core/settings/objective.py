"""What a run learns: the terms of the loss, what a large model teaches, and label embeddings."""

from pathlib import Path
from typing import Any, Literal

from pydantic import create_model, Field, model_validator, StrictBool, StrictInt
from univseg_core.method.losses import LARGE, Loss, LOSSES, MEAN
from univseg_core.settings.file import Section
from univseg_core.settings.kinds import ExistingFile, MANY, ModelFile, Number

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
