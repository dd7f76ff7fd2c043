"""Labels by which annotation tools call what is of no class."""

BACKGROUND = 'background'
"""What CVAT, Pascal VOC and others call pixels that nobody has painted."""

HOLE, IGNORED = '_background_', '__ignore__'
"""labelme's for holes, and for what its own converters leave out."""

INDEX_OF_VOID = 'index 255'
"""What that index is called where no list names it: no class can have this name."""

NO_CLASSES = (BACKGROUND, HOLE, 'void', INDEX_OF_VOID)
"""Labels of label maps that stand for no class, where a domain has none of that name."""


def is_no_class(label: str) -> bool:
    """Return whether a label of a label map, in capitals or not, is of no class by its name."""
    return label.lower() in NO_CLASSES


def says_unpainted(label: str) -> bool:
    """Return whether a label that is no class says that nobody painted what it covers."""
    return label.lower() in (BACKGROUND, HOLE)
