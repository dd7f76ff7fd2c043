"""The forms of training that are compared: the paper's, and ours."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Variant:
    """
    What one form of training changes in the configuration of an experiment.

    `alone`: a network for each domain, and not one for all. `entropies`: whether there are the
    paper's unsupervised terms; without, settings of theirs count for nothing. `supervised_only`:
    what the networks of the variant of that name, of the same N and seed, serve as: the start of
    each domain's network, or the networks whose features give the label embeddings. `goes_on_from`
    names the variant of all domains whose model, of the same N and seed, it begins with, and
    `taught_by` that whose model answers for its unlabelled crops. `steps` and `rate` multiply the
    steps and the learning rate of the experiment.
    """

    name: str
    text: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    alone: bool = False
    entropies: bool = True
    supervised_only: Literal['start', 'networks'] | None = None
    goes_on_from: str | None = None
    taught_by: str | None = None
    steps: float = 1.0
    rate: float = 1.0

    @property
    def needs_unlabelled(self) -> bool:
        """Return whether unlabelled images are learned from, or in the batches."""
        return bool(self.entropies or self.taught_by
                    or 'consistency' in self.changes.get('objective', {}))


BALANCED = {'class_balance': 0.5}
TEACHER = {'consistency': 1.0, 'warmup_steps': 1000}

GOOD_TEACHER = {'consistency': 1.0, 'warmup_steps': 50}
"""One that begins with a trained model, and can be believed soon."""

CONTROL = {'consistency': 1e-12}
"""A weight that vanishes beside the supervised loss in float32: the crops alone are there."""

HELD: dict[str, dict[str, Any]] = {
    'objective': BALANCED | {'alpha': 0.1, 'beta': 0.1, 'warmup_steps': 50, 'anchor': 1.0,
                             'similarity': 'cosine', 'temperature': 0.1},
    # Of the model that it goes on from: one step changes it by next to nothing.
    'label_embeddings': {'basis': 'joint', 'pretrain_steps': 1}}
"""The paper's entropies where they can neither shrink by scale nor leave the classes."""

SMALL: dict[str, dict[str, Any]] = {
    'model': {'encoder': 'light'}, 'training': {'encoder_rate': 1.0}, 'objective': BALANCED,
    'data': {'unlabelled_per_domain': 2}}
"""A network that a robot can afford, from random weights."""

SUPERVISED_ONLY = Variant(
    'supervised_only', "a network for each domain, of that domain's labels alone", alone=True,
    entropies=False)

VARIANTS = {variant.name: variant for variant in (
    SUPERVISED_ONLY,
    Variant('finetune', 'a network for each domain, begun with the supervised_only network of the '
                        'domain before it (the last one, for the first) and a new head',
            alone=True, entropies=False, supervised_only='start'),
    Variant('univ_basic', 'one network for all domains, supervised terms alone (α = β = 0)',
            entropies=False),
    Variant('univ_cross', 'univ_basic and the cross-domain entropy (β = 0)',
            {'objective': {'beta': 0.0}}, supervised_only='networks'),
    Variant('univ_full', 'univ_basic and both entropies, of the weights that the base has',
            supervised_only='networks'),
    Variant('univ_full_k3', 'univ_full with three label embeddings a class (K = 3)',
            {'label_embeddings': {'centroids': 3}}, supervised_only='networks'),
    Variant('univ_full_theta_0', 'univ_full with label embeddings made anew each epoch (θ = 0)',
            {'label_embeddings': {'theta': 0.0}}, supervised_only='networks'),
    Variant('univ_full_theta_0_5', 'univ_full with label embeddings half renewed each epoch (θ = '
                                   '0.5)',
            {'label_embeddings': {'theta': 0.5}}, supervised_only='networks'),
    Variant('univ_full_cosine', 'univ_full with cosine similarity, at a temperature of 0.1',
            {'objective': {'similarity': 'cosine', 'temperature': 0.1}},
            supervised_only='networks'),
    Variant('univ_full_anchor', 'univ_full with labelled pixels held to the label embeddings of '
                                'their class',
            {'objective': {'anchor': 1.0}}, supervised_only='networks'),
    Variant('univ_full_joint', 'univ_full begun with one network of all domains, and label '
                               'embeddings of one PCA over its features',
            {'label_embeddings': {'basis': 'joint'}}),
    Variant('univ_basic_control', 'univ_basic with the mixed unlabelled crops in the forward pass '
                                  'and no loss on them: what they do by batch norm alone',
            {'objective': CONTROL}, entropies=False),
    Variant('univ_basic_longer', 'univ_basic with 1.8 times the steps: about the computing time '
                                 'of univ_teacher, or more', entropies=False, steps=1.8),
    Variant('univ_balanced', 'univ_basic with pixels of rare classes weighed more',
            {'objective': BALANCED}, entropies=False),
    Variant('balanced_alone', 'supervised_only with pixels of rare classes weighed more',
            {'objective': BALANCED}, alone=True, entropies=False),
    Variant('univ_balanced_control', 'the same control of univ_balanced',
            {'objective': BALANCED | CONTROL}, entropies=False),
    Variant('univ_balanced_longer', 'univ_balanced with 1.8 times the steps',
            {'objective': BALANCED}, entropies=False, steps=1.8),
    Variant('univ_teacher', "univ_basic and mixed unlabelled crops held to a mean teacher's "
                            'answers', {'objective': TEACHER}, entropies=False),
    Variant('univ_balanced_teacher', 'univ_balanced and univ_teacher at once, as by default',
            {'objective': BALANCED | TEACHER}, entropies=False),
    Variant('then_labels', "univ_balanced's model, trained on with the same labels: half of the "
                           'learning rate, 11/6 of the steps', {'objective': BALANCED},
            entropies=False, goes_on_from='univ_balanced', steps=11 / 6, rate=0.5),
    Variant('then_control', "univ_balanced's model, trained on with then_teacher's crops, and no "
                            'loss on them', {'objective': BALANCED | CONTROL}, entropies=False,
            goes_on_from='univ_balanced', steps=0.742, rate=0.5),
    Variant('then_teacher', "univ_balanced's model, trained on with a mean teacher of unlabelled "
                            'crops: half of the learning rate, 0.742 of the steps, which take '
                            'about as long as those of then_labels',
            {'objective': BALANCED | GOOD_TEACHER}, entropies=False,
            goes_on_from='univ_balanced', steps=0.742, rate=0.5),
    Variant('then_entropies', "univ_balanced's model, trained on with a tenth of the paper's two "
                              'entropies: label embeddings and E of one PCA over its features, '
                              'cosine similarity, anchor; steps and rate of then_teacher', HELD,
            goes_on_from='univ_balanced', steps=0.742, rate=0.5),
    Variant('then_within', 'then_entropies without the cross-domain entropy (α = 0)',
            HELD | {'objective': HELD['objective'] | {'alpha': 0.0}},
            goes_on_from='univ_balanced', steps=0.742, rate=0.5),
    Variant('small_labels', 'the `light` encoder from random weights, class balance, the labels '
                            'alone: 1.5 times the learning rate, 20/3 of the steps', SMALL,
            entropies=False, steps=20 / 3, rate=1.5),
    Variant('small_taught', "the same, and univ_balanced's model answers for unlabelled crops: "
                            '25/6 of the steps, which take about as long', SMALL,
            entropies=False, taught_by='univ_balanced', steps=25 / 6, rate=1.5),
)}
"""By name, in the order in which tables show them and runs are made."""

STARTS = {name for variant in VARIANTS.values()
          for name in (variant.goes_on_from, variant.taught_by) if name}
"""The names of those whose models others begin with, or are taught by."""
