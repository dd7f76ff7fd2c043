"""What a model is that was exported, and what the domains of any model are, in plain values."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from univseg_core.domains import Domain
from univseg_core.errors import UnivsegError
from univseg_core.files import sha256_of
from univseg_core.models.exported_file import load_exported
from univseg_core.models.heads import absent_classes, Heads
from univseg_core.models.model_card import ModelCard


class DescriptionError(UnivsegError):
    """A file or folder that univseg did not make."""


def describe_exported(path: Path) -> dict[str, Any]:
    """Return what an exported model holds; raise ModelFileError."""
    facts = facts_of(path)
    model, card = load_exported(path)
    return {
        'kind': 'exported model', **facts,
        **asdict(model.export),
        'encoder': model.spec.encoder, 'width': model.spec.width,
        'embedding_dim': model.spec.embedding_dim, 'stride': model.stride,
        'normalisation': model.normalisation.to_dict(),
        'began_with': model.began_with.to_dict() if model.began_with else None,
        'image_size': card.image_size,
        'recognises': model.evidence is not None,
        'domains': describe_domains(model.domains, model.heads, card),
        'settings': card.training.get('config', {}),
    }


def facts_of(path: Path) -> dict[str, Any]:
    """Return what is told of every file."""
    return {'path': str(path), 'bytes': path.stat().st_size, 'sha256': sha256_of(path)}


def describe_domains(of_model: Mapping[str, Domain], heads: Heads, card: ModelCard
                     ) -> dict[str, dict]:
    """Return what a model has of each of its domains, by name."""
    domains = {}
    for name, domain in of_model.items():
        vectors = heads.label_embeddings[name]
        per_class = len(vectors) // len(domain.classes) if vectors.any() else 0
        absent = absent_classes(vectors, domain) if per_class else []
        domains[name] = {
            'classes': list(domain.classes),
            'palette': [list(colour) for colour in domain.palette],
            'miou': card.miou.get(name),
            'label_embeddings_per_class': per_class,
            'classes_without_label_embedding': absent,
            'labelled_images_hash': card.training.get('labelled', {}).get(name),
        }
    return domains
