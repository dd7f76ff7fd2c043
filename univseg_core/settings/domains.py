"""The places that a run learns: label spaces, and where their images are."""

from typing import Any, Literal, TYPE_CHECKING

from pydantic import Field, field_validator, StrictBool, StrictInt, ValidationInfo
from pydantic_core import PydanticCustomError
from univseg_core.datasets.layouts import LAYOUTS
from univseg_core.pictures.label_meaning import LabelMeaning
from univseg_core.settings.file import Section
from univseg_core.settings.kinds import ClassNames, Folder, Images, MANY

if TYPE_CHECKING:  # a type checker cannot know what is in LAYOUTS
    DatasetName = str
else:
    DatasetName = Literal[('folder', *LAYOUTS)]

MOST_FOLDERS = 10_000


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
