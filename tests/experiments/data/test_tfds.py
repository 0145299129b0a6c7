"""Reading of TFDS images: on a data set that the test writes itself, and on CIFAR-10 if present."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data.tfds import DATA_DIR_VARIABLE, data_directory, load_images
from experiments.errors import UsageError

tfds = pytest.importorskip("tensorflow_datasets", reason="needs the extra 'data'")

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 4, 5, 3), np.uint8)
LABELS = RNG.integers(0, 10, 7)


def png(image):
    """Encodes an image; TFDS would need TensorFlow to do it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    file.seek(0)
    return file


class TinyImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of TFDS: seven images, one of them smaller where ``shape`` leaves that open."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = Path(__file__).parent
    shape = (4, 5, 3)
    labelled = True

    def _info(self):
        features = {"image": tfds.features.Image(shape=self.shape, encoding_format="png")}
        if self.labelled:
            features["label"] = tfds.features.ClassLabel(num_classes=10)
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            image = image[:2] if self.shape[0] is None and number == 0 else image
            yield number, {"image": png(image)} | ({"label": label} if self.labelled else {})


class MixedSizes(TinyImages, skip_registration=True):
    name = "tiny_images"
    shape = (None, 5, 3)


class Unlabelled(TinyImages, skip_registration=True):
    name = "tiny_images"
    labelled = False


def write(builder, folder):
    """Prepares a data set in TFDS's own format."""
    builder(data_dir=str(folder), file_format="array_record").download_and_prepare()


@pytest.fixture
def no_environment(monkeypatch):
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)


def sorted_by_content(images, labels):
    order = np.lexsort(images.reshape(len(images), -1).T)
    return images[order], labels[order]


def test_images_and_labels_come_back_exactly(tmp_path):
    write(TinyImages, tmp_path)
    images, labels = load_images("tiny_images", "train", str(tmp_path))
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    # TFDS shuffles by a hash of the key when it writes.
    read = sorted_by_content(images, labels)
    for found, expected in zip(read, sorted_by_content(IMAGES, LABELS), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nothing_is_said_of_other_decoders(tmp_path):
    """TFDS says once a process that OpenCV would be faster, hence a process of its own."""
    write(TinyImages, tmp_path)
    code = (
        "import sys; from experiments.data.tfds import load_images;"
        "print(load_images('tiny_images', 'train', sys.argv[1])[0].shape)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert process.stdout == "(7, 4, 5, 3)\n"
    assert not process.stderr


def test_a_part_of_a_split_is_its_beginning(tmp_path):
    write(TinyImages, tmp_path)
    images, labels = load_images("tiny_images", "train", str(tmp_path))
    part, part_labels = load_images("tiny_images", "train[:3]", str(tmp_path))
    np.testing.assert_array_equal(part, images[:3])
    np.testing.assert_array_equal(part_labels, labels[:3])


def test_arrays_are_kept_and_cannot_be_changed(tmp_path):
    write(TinyImages, tmp_path)
    first = load_images("tiny_images", "train", str(tmp_path))
    assert load_images("tiny_images", "train", str(tmp_path))[0] is first[0]
    with pytest.raises(ValueError, match="read-only"):
        first[0][0] = 0


def test_the_environment_variable_is_the_default_folder(tmp_path, monkeypatch):
    write(TinyImages, tmp_path)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    assert load_images("tiny_images", "train")[0].shape == (7, 4, 5, 3)
    assert data_directory("elsewhere") == "elsewhere"


def test_without_the_variable_it_is_the_folder_of_tfds(no_environment):
    assert data_directory().endswith("tensorflow_datasets")
    assert "~" not in data_directory()


def test_missing_data_say_how_to_get_them(tmp_path):
    with pytest.raises(UsageError, match=r"cifar10/\d.* is not in .*nowhere.*TFDS_DATA_DIR"):
        load_images("cifar10", "train", str(tmp_path / "nowhere"))


def test_unknown_data_set(tmp_path):
    with pytest.raises(UsageError, match=r"cifar11.* a name in TFDS\?"):
        load_images("cifar11", "train", str(tmp_path))


def test_unknown_split(tmp_path):
    write(TinyImages, tmp_path)
    with pytest.raises(UsageError, match=r"'tiny_images' has no split 'test'.*train"):
        load_images("tiny_images", "test", str(tmp_path))


def test_data_without_labels_are_refused(tmp_path):
    write(Unlabelled, tmp_path)
    with pytest.raises(UsageError, match="has no label, only image; choose one of labelled"):
        load_images("tiny_images", "train", str(tmp_path))


def test_images_of_different_sizes_are_refused(tmp_path):
    write(MixedSizes, tmp_path)
    with pytest.raises(UsageError, match=r"of 'tiny_images' 'train' are none or differ in size"):
        load_images("tiny_images", "train", str(tmp_path))


def test_without_tfds_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UsageError, match=r"tensorflow_datasets missing; .* '\.\[data\]'"):
        load_images("tiny_images", "train", str(tmp_path))


def test_cifar10():
    try:
        images, labels = load_images("cifar10", "test[:50]")
    except UsageError as error:
        pytest.skip(str(error))
    assert images.shape == (50, 32, 32, 3)
    assert 90 < images.mean() < 150, "pixels from 0 to 255"
    assert set(labels) == set(range(10)), "50 examples show every class"
