"""Which runs an experiment takes, and which experiments are refused."""


from plans import difference, names, planned
import pytest
from tiny_worlds import configuration
from univseg_core.cli import main
from univseg_core.datasets.folders import DataError
from univseg_core.research.plan import ExperimentError
from univseg_core.research.settings import load_experiment
from univseg_core.research.variants import VARIANTS
from univseg_core.settings.config import load_config
from univseg_core.settings.file import ConfigError
from univseg_core.training.run_settings import flat
import yaml


def test_each_run_comes_once_after_what_it_needs(write, root):
    path = write(variants=['univ_full', 'finetune'], labelled=[2, 'all'], seeds=[0, 3])
    runs = planned(path, root)
    cell = ['supervised_only/outdoor', 'supervised_only/indoor', 'finetune/outdoor',
            'finetune/indoor', 'univ_full']
    assert names(runs, root) == [f'{n}/seed{seed}/{name}' for n in ('n2', 'all')
                                 for seed in (0, 3) for name in cell]
    needs = {run.folder: names([type(run)(folder, {}) for folder in run.needs], root)
             for run in runs[5:10]}
    base = 'n2/seed3'
    assert list(needs.values()) == [
        [], [], [f'{base}/supervised_only/indoor'], [f'{base}/supervised_only/outdoor'],
        [f'{base}/supervised_only/outdoor', f'{base}/supervised_only/indoor']]


def test_some_variants_alone_bring_what_they_need(write, root):
    path = write(variants=list(VARIANTS))
    assert names(planned(path, root, only=['univ_basic']), root) == ['n2/seed0/univ_basic']
    assert names(planned(path, root, only=['univ_full_k3']), root) == [
        'n2/seed0/supervised_only/outdoor', 'n2/seed0/supervised_only/indoor',
        'n2/seed0/univ_full_k3']
    runs = planned(path, root, only=['then_labels'])
    assert names(runs, root) == ['n2/seed0/univ_balanced', 'n2/seed0/then_labels']
    assert runs[1].needs == (runs[0].folder,)
    with pytest.raises(ExperimentError, match=r'tiny\.yaml: has no variant univ_ful; it has .*k3'):
        planned(path, root, only=['univ_ful'])


def test_the_domain_before_starts_a_third_one(write, root, worlds):
    base = configuration(worlds)
    base['domains']['attic'] = base['domains']['indoor']
    runs = planned(write(base, variants=['finetune']), root)[3:]
    assert [(run.folder.name, run.needs[0].name) for run in runs] == [
        ('outdoor', 'attic'), ('indoor', 'outdoor'), ('attic', 'indoor')]


def test_finetune_and_univ_cross_need_two_domains(write, root):
    base = yaml.safe_load(write().with_name('base.yaml').read_text())
    del base['domains']['indoor']
    for variant in ('finetune', 'univ_cross'):
        with pytest.raises(ConfigError, match=rf'tiny\.yaml: {variant} needs two domains or more, '
                                              'the base has outdoor alone'):
            planned(write(base, variants=[variant]), root)
    assert len(planned(write(base, variants=['univ_full']), root)) == 2


def test_each_variant_changes_what_its_name_says_alone(write, root, worlds):
    base = configuration(worlds) | {'objective': {'alpha': 0.3, 'beta': 0.2, 'warmup_steps': 5}}
    base['data']['unlabelled_per_domain'] = 2
    path = write(base, variants=list(VARIANTS), seeds=[4], single_domain_steps=7)
    runs = {name: run for run, name in zip(planned(path, root), names(planned(path, root), root),
                                           strict=True)}
    configs = {name.removeprefix('n2/seed4/'): run.config for name, run in runs.items()}
    models = {name: str(root / f'n2/seed4/supervised_only/{name}/model.univseg')
              for name in ('outdoor', 'indoor')}

    full = configs['univ_full']
    assert (full['objective']['alpha'], full['objective']['beta']) == (0.3, 0.2)
    assert full['label_embeddings']['networks'] == models
    assert full['training']['seed'] == 4
    assert {name: domain['labelled'] for name, domain in full['domains'].items()} == {
        'outdoor': 2, 'indoor': 2}
    changes = {
        'univ_cross': {'objective.beta': 0},
        'univ_full_k3': {'label_embeddings.centroids': 3},
        'univ_full_theta_0': {'label_embeddings.theta': 0},
        'univ_full_theta_0_5': {'label_embeddings.theta': 0.5},
        'univ_full_cosine': {'objective.similarity': 'cosine', 'objective.temperature': 0.1},
        'univ_full_anchor': {'objective.anchor': 1},
    }
    for name, expected in changes.items():
        assert difference(full, configs[name]) == set(expected), name
        assert expected.items() <= flat(configs[name]).items()
    joint = configs['univ_full_joint']
    assert difference(full, joint) == {
        'label_embeddings.basis', 'label_embeddings.networks.outdoor',
        'label_embeddings.networks.indoor'}
    assert joint['label_embeddings']['basis'] == 'joint'

    basic = configs['univ_basic']
    assert (basic['objective']['alpha'], basic['objective']['beta']) == (0, 0)
    assert {key.split('.')[0] for key in difference(full, basic)} == {
        'objective', 'label_embeddings'}
    then = {'model.start': str(root / 'n2/seed4/univ_balanced/model.univseg'),
            'objective.class_balance': 0.5,
            'training.learning_rate': base['training']['learning_rate'] / 2}
    held = {'training.steps': 22, 'objective.warmup_steps': 50, 'objective.similarity': 'cosine',
            'objective.temperature': 0.1, 'objective.anchor': 1.0,
            'label_embeddings.basis': 'joint', 'label_embeddings.pretrain_steps': 1}
    small = {'objective.class_balance': 0.5, 'training.encoder_rate': 1.0,  # the base has the rest
             'training.learning_rate': base['training']['learning_rate'] * 1.5}
    for name, expected in {
            'univ_basic_control': {'objective.consistency': 1e-12},
            'univ_basic_longer': {'training.steps': 54},
            'univ_balanced': {'objective.class_balance': 0.5},
            'univ_balanced_control': {'objective.class_balance': 0.5,
                                      'objective.consistency': 1e-12},
            'univ_balanced_longer': {'objective.class_balance': 0.5, 'training.steps': 54},
            'univ_teacher': {'objective.consistency': 1.0, 'objective.warmup_steps': 1000},
            'univ_balanced_teacher': {
                'objective.class_balance': 0.5, 'objective.consistency': 1.0,
                'objective.warmup_steps': 1000},
            'then_labels': then | {'training.steps': 55},
            'then_control': then | {'training.steps': 22, 'objective.consistency': 1e-12},
            'then_teacher': then | {'training.steps': 22, 'objective.consistency': 1.0,
                                    'objective.warmup_steps': 50},
            'then_entropies': then | held | {'objective.alpha': 0.1, 'objective.beta': 0.1},
            'then_within': then | held | {'objective.beta': 0.1},
            'small_labels': small | {'training.steps': 200},
            'small_taught': small | {
                'training.steps': 125,
                'objective.distillation.teacher': then['model.start'],
                **{f'objective.distillation.{key}': value for key, value in (
                    ('weight', 1.0), ('temperature', 1.0), ('labelled', False))}}}.items():
        assert difference(basic, configs[name]) == set(expected), name
        assert expected.items() <= flat(configs[name]).items()
    alone = configs['supervised_only/indoor']
    assert list(alone['domains']) == ['indoor']
    assert alone['training']['steps'] == 7
    assert {key for key in difference(basic, alone) if 'outdoor' not in key} == {
        'training.steps'}
    tuned = configs['finetune/indoor']
    assert difference(alone, tuned) == {'model.start'}
    assert tuned['model']['start'] == models['outdoor']


def test_the_entropies_are_the_papers_where_the_base_says_nothing(write, root, worlds):
    base = configuration(worlds)
    del base['objective']
    path = write(base, variants=['univ_basic', 'univ_cross', 'univ_full'])
    weights = [(run.config['objective']['alpha'], run.config['objective']['beta'])
               for run in planned(path, root)]
    assert weights == [(0, 0), (0, 0), (0, 0), (1, 0), (1, 1)]  # first, two networks of a domain
    base['objective'] = {'alpha': 0, 'beta': 0}
    with pytest.raises(ConfigError, match=r'objective\.alpha and \.beta: univ_full has'):
        planned(write(base, variants=['univ_full']), root)


def test_what_the_variants_decide_is_refused(write, root):
    for key in ('consistency', 'class_balance'):
        with pytest.raises(ConfigError, match=rf'objective\.{key}: the variants decide it'):
            planned(write(), root, f'objective.{key}=0.3')
        path = write(overrides={'objective': {'alpha': 0.1, key: 0.3}})
        with pytest.raises(ConfigError, match=rf'tiny\.yaml: overrides: objective\.{key}: the'):
            planned(path, root)
    for key, override in (('training.seed', 'training.seed=3'),
                          ('domains.outdoor.labelled', 'domains.outdoor={labelled: 3}')):
        with pytest.raises(ConfigError, match=rf'^{key}: .* decide'):
            planned(write(), root, override)
    path = write(overrides={'training': {'seed': 3}})
    with pytest.raises(ConfigError, match=r'tiny\.yaml: overrides: training\.seed: the exp'):
        planned(path, root)


def test_a_teacher_that_could_not_mix_is_refused_before_anything_runs(write, root):
    with pytest.raises(ConfigError, match=r'data\.unlabelled_per_domain: expected at least 2'):
        planned(write(variants=['univ_basic', 'univ_teacher']), root)


@pytest.mark.parametrize('variant', ['univ_full', 'univ_teacher', 'univ_basic_control'])
def test_missing_unlabelled_images_are_told_before_anything_runs(write, root, worlds, variant):
    base = configuration(worlds)
    base['data']['unlabelled_per_domain'] = 2
    for section in base['domains'].values():
        section['labelled_also_unlabelled'] = False
    planned(write(base, variants=['univ_basic'], labelled=['all']), root)
    with pytest.raises(DataError, match='what unlabelled images teach, but no domain has any'):
        planned(write(base, variants=['univ_basic', variant], labelled=['all']), root)


def test_an_empty_objective_of_the_base_is_named(write, root, worlds):
    base = configuration(worlds) | {'objective': None}
    with pytest.raises(ConfigError, match=r'base\.yaml: objective: expected keys and values'):
        planned(write(base, variants=['univ_full']), root)


def test_steps_of_one_domain_by_n(write, root):
    path = write(labelled=[2, 'all'], single_domain_steps={2: 11, 'all': 12})
    assert [run.steps for run in planned(path, root)] == [11, 11, 30, 12, 12, 30]
    with pytest.raises(ConfigError, match=r'tiny\.yaml:\n  single_domain_steps: no number for N '
                                          '= all'):
        planned(write(labelled=[2, 'all'], single_domain_steps={2: 11}), root)


def test_steps_of_the_networks_that_others_go_on_from(write, root):
    path = write(variants=['univ_balanced', 'then_labels'], labelled=[2, 'all'],
                 start_steps={2: 11, 'all': 12})
    assert [run.steps for run in planned(path, root)] == [11, 55, 12, 55]  # 11/6 of 30
    with pytest.raises(ConfigError, match=r'start_steps: no number for N = all'):
        planned(write(labelled=[2, 'all'], start_steps={2: 11}), root)


def test_what_concerns_the_unsupervised_terms_alone_leaves_the_other_runs_as_they_are(write, root):
    path = write(variants=['supervised_only', 'univ_basic'])
    before, after = (planned(path, root, *changes) for changes in (
        (), ('objective.warmup_steps=9', 'label_embeddings.centroids=2')))
    assert [run.config for run in before] == [run.config for run in after]


def test_the_command_line_changes_experiment_and_configuration(write, root):
    path = write(overrides={'training': {'steps': 20}, 'data': {'scale': [1, 1]}})
    runs = planned(path, root, 'seeds=[1, 2]', 'training.learning_rate=0.5')
    assert {run.folder.parts[-2] for run in runs if 'univ_full' in run.folder.name} == {
        'seed1', 'seed2'}
    training = runs[-1].config['training']
    assert (training['steps'], training['learning_rate'], training['seed']) == (20, 0.5, 2)
    assert runs[-1].config['data']['scale'] == [1, 1]
    assert runs[-1].config['data']['crop_size'] == 48


@pytest.mark.parametrize(('changes', 'overrides', 'messages'), [
    ({'variant': []}, (), ['variant: unknown key; did you mean variants?']),
    ({'variants': ['univ_ful']}, (), ['variants.0: ', 'univ_full', "got 'univ_ful'"]),
    ({'variants': ['univ_full', 'univ_full']}, (), ["variants: 'univ_full' is there twice"]),
    ({'seeds': []}, (), ['seeds: ']),
    ({'labelled': [0]}, (), ['labelled: ', '1 or more']),
    ({'single_domain_steps': 0}, (), ['single_domain_steps: ', '1 or more']),
    ({'folder': '../x'}, (), ['folder: ', "got '../x'"]),
    ({'published': {2: {'univ_full': {'garden': 3}}}}, (),
     ['published.2.univ_full.garden: not a domain of', '(outdoor, indoor)']),
    ({}, ('sedes=[1]',), ['sedes: unknown key; did you mean seeds?']),
    ({}, ('training.seed=1',), ['training.seed: ', 'seeds=[1]']),
    ({}, ('domains.outdoor.labelled=3',), ['domains.outdoor.labelled: ', 'labelled=[3]']),
    ({'overrides': {'domains': None}}, (), ['base.yaml: domains: expected the domains by name']),
])
def test_a_wrong_experiment_is_refused(write, changes, overrides, messages):
    with pytest.raises(ConfigError) as error:
        load_experiment(write(**changes), overrides)
    for message in messages:
        assert message in str(error.value)


@pytest.mark.parametrize(('override', 'messages'), [
    ('training.stpes=1', ['base.yaml', 'training.stpes: unknown key; did you mean steps?']),
    ('label_embeddings.basis=joint', ['base.yaml', 'basis', "the variants' to set"]),
])
def test_a_wrong_configuration_is_refused_before_anything_runs(write, root, override, messages):
    with pytest.raises(ConfigError) as error:
        planned(write(), root, override)
    for message in messages:
        assert message in str(error.value)


def test_n_larger_than_the_labelled_set_is_refused_before_anything_runs(write, root):
    with pytest.raises(DataError, match=r'domains\.outdoor\.labelled: 9 .* has 8'):
        planned(write(labelled=[2, 9]), root)


def test_two_domains_of_one_name_are_refused(write, root):
    path = write()
    base = path.with_name('base.yaml')
    base.write_text(base.read_text().replace('  indoor:', '  outdoor:'))
    with pytest.raises(ConfigError, match=r"base\.yaml: (?s:.*)'outdoor' is there twice"):
        planned(path, root)
    with pytest.raises(ConfigError, match=r"base\.yaml: (?s:.*)'outdoor' is there twice"):
        load_config(base)


def test_a_base_that_is_not_there(write):
    path = write()
    path.with_name('base.yaml').unlink()
    with pytest.raises(ConfigError, match=r'base\.yaml: no such file.*train/scenes\.yaml'):
        load_experiment(path)


def test_an_unknown_experiment_gets_the_list_of_those_that_ship(capsys):
    assert main(['experiment', 'table9']) == 1
    assert 'table9: no such file; configurations that ship: ' in capsys.readouterr().err
