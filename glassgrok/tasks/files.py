"""Data files: in a folder that is given, or downloaded into the user's cache; always checked."""

import gzip
import hashlib
import os
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import pooch
from platformdirs import user_cache_path

VARIABLE = "GLASSGROK_DATA"


class DataFile(NamedTuple):
    """What a file must hold, and where it is to be had.

    Attributes:
        size: bytes that are digested.
        digest: "md5:..." or "sha256:..." of them.
        urls: public sources, tried in this order; none where it has to be put into a folder.
        origin: what it is, for whoever has to get it by hand.
        unpacked: whether size and digest are of what the gzip file holds, since mirrors pack the
            same contents differently.
    """

    size: int
    digest: str
    urls: tuple[str, ...]
    origin: str
    unpacked: bool = False


def _mnist(name: str, size: int, md5: str) -> DataFile:
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    urls = tuple(mirror + name for mirror in mirrors)
    return DataFile(size, f"md5:{md5}", urls, "part of MNIST, as an idx file in gzip", True)


_IMDB = "the labelled IMDb reviews of Maas et al. (2011), https://ai.stanford.edu/~amaas/data/"
FILES = {
    "train-images-idx3-ubyte.gz": _mnist(
        "train-images-idx3-ubyte.gz", 47_040_016, "6bbc9ace898e44ae57da46a324031adb"
    ),
    "train-labels-idx1-ubyte.gz": _mnist(
        "train-labels-idx1-ubyte.gz", 60_008, "a25bea736e30d166cdddb491f175f624"
    ),
    "t10k-images-idx3-ubyte.gz": _mnist(
        "t10k-images-idx3-ubyte.gz", 7_840_016, "2646ac647ad5339dbf082846283269ea"
    ),
    "t10k-labels-idx1-ubyte.gz": _mnist(
        "t10k-labels-idx1-ubyte.gz", 10_008, "27ae3e4e09519cfbb04c329615203637"
    ),
    "aclImdb_50k.tsv.gz": DataFile(
        25_511_542,
        "sha256:7f485f4b67b124cfdc6a8c957292f66b6b38885879da09029e833e2d5d8c2d7b",
        (),
        f"{_IMDB}sentiment/, as one table with the columns split, label, id, rating and text",
    ),
    "aclImdb_v1.tar.gz": DataFile(
        84_125_825,
        "sha256:c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe",
        ("https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",),
        f"{_IMDB}sentiment/, as its authors packed them",
    ),
    "qm9_small_MolPropPred.csv": DataFile(
        3_406_601,
        "sha256:6a10c211b5d4759b1588b4a8dba4718a29e9fea48160a1f40e4a77148d29b6e9",
        (),
        "a random 11 % of QM9 (Ramakrishnan et al. 2014), with SMILES and properties",
    ),
    "qm9_uncharacterized.txt": DataFile(
        486_752,
        "sha256:3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24",
        ("https://ndownloader.figshare.com/files/3195404",),
        "ids of the molecules of QM9 whose geometry is inconsistent",
    ),
}


def read(name: str, data: Path | None = None) -> bytes:
    """What a data file holds, unpacked if it is a gzip file, and checked.

    It is looked for in `data`, else in the folder that the variable GLASSGROK_DATA names, else in
    the user's cache, where it is downloaded to.

    Args:
        name: one of `FILES`.
        data: folder that holds it.

    Returns:
        Its contents.

    Raises:
        ValueError: it is not there, cannot be downloaded, is truncated or holds something else.
    """
    content = _checked(name, data)
    packed = name.endswith(".gz") and not FILES[name].unpacked
    return gzip.decompress(content) if packed else content


def _checked(name: str, data: Path | None) -> bytes:
    """The digested bytes of a file that is as it should be."""
    if name not in FILES:
        raise ValueError(f"There is no data file {name!r}; choose one of: {', '.join(FILES)}.")
    wanted, folder = FILES[name], data or os.environ.get(VARIABLE)
    if folder is None:
        return _cached(name, wanted)
    path = Path(folder) / name
    if not path.is_file():
        given = "--data" if data else f"--data or {VARIABLE}"
        raise ValueError(
            f"{folder}, which {given} names, has no file {name}: {wanted.origin}. "
            + (f"Put it there, for example from {wanted.urls[0]}." if wanted.urls
               else "Put it there.")
        )  # fmt: skip
    return _verified(path, wanted, f"replace it: {wanted.origin}")


def _cached(name: str, wanted: DataFile) -> bytes:
    """The file in the user's cache, downloaded if it is not there."""
    path, failures = user_cache_path("glassgrok") / "data" / name, []
    if path.is_file():
        return _verified(path, wanted, "remove it, and it is downloaded again")
    for url in wanted.urls:
        try:
            return _downloaded(url, path, wanted)
        except (OSError, ValueError) as error:
            told = error if isinstance(error, ValueError) else type(error).__name__
            failures.append(f"{url}: {told}")
    tried = f" could not be downloaded ({'; '.join(failures)})" if failures else " is not here"
    raise ValueError(
        f"The data file {name}{tried}: {wanted.origin}. Put it into a folder, and name that with "
        f"--data or the variable {VARIABLE}."
    )


def _downloaded(url: str, path: Path, wanted: DataFile) -> bytes:
    """Fetch the file into `path`, where it appears once it is whole and right."""
    print(f"Downloading {url} to {path.parent}.", file=sys.stderr)
    pooch.get_logger().setLevel("WARNING")  # it would tell the digest of a packed file
    partial = f"{path.name}.{os.getpid()}"  # another process may be at it too
    source = pooch.HTTPDownloader(progressbar=False, timeout=30)
    arrived = Path(pooch.retrieve(url, None, partial, path.parent, downloader=source))
    try:
        content = _verified(arrived, wanted, "try later")
    except ValueError:
        arrived.unlink()
        raise
    arrived.replace(path)
    return content


def _verified(path: Path, wanted: DataFile, remedy: str) -> bytes:
    """The digested bytes of a file.

    Raises:
        ValueError: they are not those that are wanted.
    """
    content = path.read_bytes()
    if wanted.unpacked:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            raise ValueError(
                f"{path} is truncated, or no gzip file: its {len(content):,} bytes do not unpack; "
                f"{remedy}."
            ) from None
    what = "unpacked contents" if wanted.unpacked else "contents"
    kind, digest = wanted.digest.split(":")
    found = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise ValueError(
            f"{path} is truncated or another file: its {what} are {len(content):,} bytes with the "
            f"{kind} {found}, but {wanted.size:,} bytes with {digest} were expected; {remedy}."
        )
    return content
