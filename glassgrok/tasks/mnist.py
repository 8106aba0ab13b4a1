"""MNIST: the handwritten digits of LeCun et al., whole or as the messy images of Omnigrok."""

import struct
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from glassgrok.tasks.files import read
from glassgrok.tasks.supervised import Supervised

CLASSES = 10
TEMPLATES = np.linspace(-0.5, 0.5, CLASSES, dtype=np.float32)  # a number for each digit


def idx(content: bytes, name: str) -> np.ndarray:
    """The array in an idx file of unsigned bytes, http://yann.lecun.com/exdb/mnist.

    Two zero bytes, the type (8 for unsigned bytes), the number of dimensions; then each size as a
    big-endian 32-bit integer; then the bytes, the last dimension varying fastest.

    Args:
        content: of the file, unpacked.
        name: of the file, for the sentence that refuses it.

    Returns:
        A uint8 array that shares the memory of `content`.

    Raises:
        ValueError: it is no such file, or has more or fewer bytes than it says.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08" or content[3] == 0:
        raise ValueError(
            f"{name} is no idx file of bytes: it begins with {content[:4].hex(' ') or 'nothing'}, "
            "not with 00 00 08 and a number of dimensions; get it again."
        )
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(
            f"{name} ends within the sizes of its {dimensions} dimensions; get it again."
        )
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    expected = int(np.prod(shape, dtype=np.int64))
    if len(content) - start != expected:
        raise ValueError(
            f"{name} says that it holds {' x '.join(map(str, shape))} = {expected:,} bytes, but "
            f"{len(content) - start:,} follow; get it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _half(kind: str, size: int, data: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The first `size` images, flat, and their digits, of "train" or "t10k"."""
    names = f"{kind}-images-idx3-ubyte.gz", f"{kind}-labels-idx1-ubyte.gz"
    images, labels = (idx(read(name, data), name) for name in names)
    if images.ndim != 3 or labels.shape != images.shape[:1] or labels.max(initial=0) >= CLASSES:
        raise ValueError(
            f"{names[0]} holds an array of shape {images.shape} and {names[1]} one of shape "
            f"{labels.shape} up to {labels.max(initial=0)}; as many images as digits from 0 to 9 "
            "were expected: get them again."
        )
    if not 1 <= size <= len(images):
        raise ValueError(
            f"MNIST has 1 to {len(images)} images of the kind {kind}, but {size} are asked for."
        )
    return images[:size].reshape(size, -1), labels[:size].astype(np.int32)


def _clean(images, targets, messiness):
    """Bytes as numbers from 0 to 1."""
    return images.astype(jnp.float32) / 255


def _messy(images, targets, messiness):
    """m x + (1 - m) t[y], in every pixel; Liu et al. (2023, Omnigrok), Eq. 7."""
    number = jnp.asarray(TEMPLATES)[targets][:, None]
    return messiness * _clean(images, targets, messiness) + (1 - messiness) * number


def of_images(
    images, digits, test_images, test_digits, loss: str = "mse", messy: bool = False
) -> Supervised:
    """A task of flat images as bytes and their digits; see `mnist`.

    Args:
        images, test_images: (n, pixels) and (m, pixels) uint8.
        digits, test_digits: (n,) and (m,) int32 from 0 to 9.
        loss, messy: as of `mnist`.

    Returns:
        A Supervised task named MNIST.
    """
    return Supervised(
        name="MNIST, messy" if messy else "MNIST",
        inputs=images,
        targets=digits,
        test_inputs=test_images,
        test_targets=test_digits,
        loss=loss,
        prepare=_messy if messy else _clean,
    )


def mnist(
    data: Path | None = None,
    train: int = 60_000,
    test: int = 10_000,
    loss: Literal["mse", "cross_entropy"] = "mse",
    messy: bool = False,
) -> Supervised:
    """MNIST as Omnigrok takes it: flat images from 0 to 1, and their digits.

    The images stay bytes, a quarter of their size as the floats that a step makes of its batch.

    Args:
        data: folder of the four idx files; None for that of GLASSGROK_DATA, else the user's cache,
            where they are downloaded to.
        train, test: how many of the 60,000 and 10,000 images are kept, the first ones of each.
        loss: "mse" to the one-hot digit, or "cross_entropy".
        messy: whether a run's messiness m blends images with t[y], t = linspace(-0.5, 0.5, 10),
            in train and test images alike; Liu et al. (2023, Omnigrok), Eq. 7, where t is the digit
            itself, and their code, where it is as here.

    Returns:
        A Supervised task of (n, 784) uint8 inputs.

    Raises:
        ValueError: a file is missing or wrong, or there are not so many images.
    """
    return of_images(*_half("train", train, data), *_half("t10k", test, data), loss, messy)
