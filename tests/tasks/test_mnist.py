"""MNIST: idx files, the order and the scale of images, messy images; the real files if there."""

import gzip
import hashlib
import os
import struct

import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.tasks import files
from glassgrok.tasks.mnist import TEMPLATES, idx, mnist


def packed(array: np.ndarray) -> bytes:
    """The array as an idx file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four idx files of 7 and 5 images of 3 x 2, in gzip, known to be right."""
    rng = np.random.default_rng(0)

    def put(kind, images, labels):
        for name, array in ((f"{kind}-images-idx3", images), (f"{kind}-labels-idx1", labels)):
            content = packed(array.astype(np.uint8))
            digest = "md5:" + hashlib.md5(content).hexdigest()
            known = files.DataFile(len(content), digest, (), "digits", True)
            monkeypatch.setitem(files.FILES, f"{name}-ubyte.gz", known)
            (tmp_path / f"{name}-ubyte.gz").write_bytes(gzip.compress(content))

    put("train", rng.integers(0, 256, (7, 3, 2)), np.arange(7) % 10)
    put("t10k", rng.integers(0, 256, (5, 3, 2)), np.arange(9, 4, -1))
    return tmp_path, put


def test_an_idx_file_is_read_and_a_broken_one_named():
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    content = packed(array)
    assert np.array_equal(idx(content, "a"), array)
    assert np.array_equal(idx(packed(array[0, 0]), "a"), array[0, 0])
    little = struct.pack("<BBBB3I", 0, 0, 8, 3, 2, 3, 4) + array.tobytes()
    for broken, told in (
        (little, r"33554432 x 50331648 x 67108864"),
        (content[:-1], r"holds 2 x 3 x 4 = 24 bytes, but 23 follow"),
        (content + b"\0", r"but 25 follow"),
        (content[:9], r"ends within the sizes of its 3 dimensions"),
        (b"", r"begins with nothing"),
        (b"\0\0\x0d\x03" + content[4:], r"begins with 00 00 0d 03"),  # floats
        (b"\x1f\x8b\x08\x00", r"begins with 1f 8b 08 00"),  # still packed
    ):
        with pytest.raises(ValueError, match=rf"^a .*{told}"):
            idx(broken, "a")


def test_the_first_images_in_order(folder):
    task = mnist(folder[0], 4, 5)
    whole = mnist(folder[0], 7, 5, loss="cross_entropy")
    assert task.inputs.shape == (4, 6)
    assert task.inputs.dtype == np.uint8
    assert np.array_equal(task.inputs, whole.inputs[:4])
    assert whole.targets.tolist() == list(range(7))
    assert whole.test_targets.tolist() == [9, 8, 7, 6, 5]
    assert (task.loss, whole.loss) == ("mse", "cross_entropy")
    seen = task.prepare(jnp.asarray(task.inputs), jnp.asarray(task.targets), jnp.float32(1))
    assert np.allclose(seen, task.inputs / 255, atol=1e-7)


def test_messy_images_go_from_numbers_to_images(folder):
    task = mnist(folder[0], 7, 5, messy=True)
    images, digits = jnp.asarray(task.inputs), jnp.asarray(task.targets)
    x = task.inputs / 255
    t = np.linspace(-0.5, 0.5, 10)[np.arange(7), None]
    for m in (0.0, 0.3, 1.0):
        seen = task.prepare(images, digits, jnp.float32(m))
        assert np.allclose(seen, m * x + (1 - m) * t, atol=1e-6)
    assert TEMPLATES[0] == -0.5


def test_what_does_not_fit_is_refused(folder):
    data, put = folder
    with pytest.raises(ValueError, match="1 to 7 images of the kind train, but 8 are asked for"):
        mnist(data, 8, 5)
    with pytest.raises(ValueError, match="1 to 5 images of the kind t10k, but 0 are asked for"):
        mnist(data, 7, 0)
    put("t10k", np.zeros((5, 3, 2)), np.arange(4))
    with pytest.raises(ValueError, match=r"shape \(5, 3, 2\) and t10k-labels.* shape \(4,\) up to"):
        mnist(data, 7, 5)
    put("t10k", np.zeros((5, 3, 2)), np.arange(6, 11))
    with pytest.raises(ValueError, match="up to 10; as many images as digits from 0 to 9"):
        mnist(data, 7, 5)


@pytest.mark.skipif(files.VARIABLE not in os.environ, reason="GLASSGROK_DATA names no folder")
def test_the_real_files():
    task = mnist()
    assert (task.inputs.shape, task.test_inputs.shape) == ((60_000, 784), (10_000, 784))
    assert task.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert task.test_targets[:5].tolist() == [7, 2, 1, 0, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(task.targets).tolist() == counts
    assert task.inputs.mean() == pytest.approx(255 * 0.1307, rel=1e-3)  # the mean everyone quotes
