"""Checkpoints: any pytree of arrays and numbers, written by Orbax and checked when read."""

import hashlib
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
        step: of the checkpoint.
        tree: the pytree; arrays are NumPy arrays of the type they were saved with.
        about: what `save` was given of that name.
    """

    step: int
    tree: Any
    about: dict


class Checkpoints:
    """The checkpoints of one stage of a run, in a folder of their own.

    Orbax restores flipped bytes silently, so a sha256 of everything lies beside the arrays.

    Args:
        path: the folder; made with the first checkpoint.
        keep: how many of the latest checkpoints stay; None only reads, and changes nothing in a
            folder that another process may be writing to.
    """

    def __init__(self, path: Path, keep: int | None = 2):
        # What goes wrong in a background thread is raised here later; a log would say it twice.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.path, self._reads = Path(path), keep is None
        # Of several processes one writes and each reads for itself; Orbax must not wait for all.
        me = jax.process_index()
        how = {
            "multiprocessing_options": ocp.options.MultiprocessingOptions(
                primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
            )
        }
        if self._reads:
            options = ocp.CheckpointManagerOptions(read_only=True, **how)
        else:
            with self._sentences("The folder of the checkpoints"):
                self.path.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=True, create=False, **how
            )
        with _quiet():
            self._manager = ocp.CheckpointManager(
                self.path.absolute(), options=options, item_names=("state", "about")
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with self._sentences("The last checkpoint"):
            self._manager.close()

    def steps(self) -> list[int]:
        """Steps with a checkpoint, sorted."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree, about: dict | None = None) -> None:
        """Write a checkpoint in the background; one that is there already is left alone.

        Args:
            step: at which it can be found.
            tree: pytree of arrays, Python and NumPy numbers; copied before this returns.
            about: what else to keep, as JSON.

        Raises:
            OSError: this checkpoint, or the one before it, could not be written.
        """
        if step in self.steps():
            return
        # A later block may reuse the memory of the walkers.
        leaves = [(name, _kind(leaf), np.array(leaf)) for name, leaf in _named(tree)]
        described = [
            {"name": name, "kind": kind, "dtype": array.dtype.str, "shape": array.shape}
            for name, kind, array in leaves
        ]
        header = {"leaves": described, "about": about or {}}
        header["sha256"] = _digest(header, [array for *_, array in leaves])
        # Orbax refuses arrays without elements; the header knows their shapes.
        state = {key: a for key, (*_, a) in zip(_keys(described), leaves, strict=True) if a.size}
        items = ocp.args.Composite(
            state=ocp.args.PyTreeSave(state or {"nothing": np.zeros(1)}),
            about=ocp.args.JsonSave(header),
        )
        with self._sentences(f"The checkpoint of step {step}"):
            self._manager.check_for_errors()
            self._find_room(sum(array.nbytes for *_, array in leaves))
            self._manager.save(step, args=items)

    def _find_room(self, size: int) -> None:
        # Orbax writes all arrays at once, and where several fail it fills the terminal with
        # tracebacks of its threads, after the sentence.
        if hasattr(os, "posix_fallocate"):
            with TemporaryFile(dir=self.path) as spare:
                os.posix_fallocate(spare.fileno(), 0, max(size, 1))

    def wait(self) -> None:
        """Return when all is on the disk; raises OSError if it cannot be written."""
        with self._sentences("The last checkpoint"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def restore(self, example, accept: Callable[[Restored], Any] | None = None) -> Restored | None:
        """Read the latest checkpoint that is whole; damaged ones after it are removed.

        Args:
            example: a pytree of the structure that was saved; its leaves do not matter.
            accept: called with what `latest` returns; raises where that is not wanted.

        Returns:
            A Restored, or None where there is no checkpoint at all.

        Raises:
            ValueError: there are checkpoints, but none is whole, or they hold something else.
        """
        found = self.latest()
        if found is not None and accept is not None:
            accept(found)
        return found and found._replace(tree=self._rebuild(example, found.tree))

    def latest(self) -> Restored | None:
        """As `restore`, where the structure is not known: the tree is a dict, name -> leaf.

        Raises:
            ValueError: there are checkpoints, but none is whole.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                with _quiet():
                    header, arrays = self._read(step)
                if _digest(header, arrays) != header["sha256"]:
                    raise ValueError("its checksum is wrong")
            except Exception as error:  # each kind of damage raises its own kind
                damaged.append(step)
                print(
                    f"Warning: the checkpoint of step {step} in {self.path} is damaged "
                    f"({_first_line(error)}).",
                    file=sys.stderr,
                )
                continue
            for bad in () if self._reads else damaged:  # else no other could take its step
                self._manager.delete(bad)
            leaves = {
                leaf["name"]: _as_kind(leaf["kind"], array)
                for leaf, array in zip(header["leaves"], arrays, strict=True)
            }
            return Restored(step, leaves, header["about"])
        if damaged:
            raise ValueError(
                f"None of the checkpoints {damaged} in {self.path} is whole; restore the folder "
                "from a copy, or start again with --overwrite."
            )
        return None

    def about(self) -> dict | None:
        """What the latest checkpoint says of itself, unchecked; None where none can be read."""
        for step in reversed(self.steps()):
            with suppress(Exception), _quiet():  # `restore` will say what is wrong
                return self._header(step)["about"]
        return None

    def _header(self, step: int) -> dict:
        only = ocp.args.Composite(about=ocp.args.JsonRestore())
        header = self._manager.restore(step, args=only)["about"]
        if not isinstance(header, dict):
            raise ValueError("it does not say what it holds")
        return header

    def _read(self, step: int) -> tuple[dict, list[np.ndarray]]:
        header = self._header(step)
        leaves = header["leaves"]
        full = [key for key, leaf in zip(_keys(leaves), leaves, strict=True) if _size(leaf)]
        as_numpy = {key: ocp.RestoreArgs(restore_type=np.ndarray) for key in full}
        wanted = ocp.args.PyTreeRestore(item=dict.fromkeys(full, 0), restore_args=as_numpy)
        arrays = {}
        if full:
            arrays = self._manager.restore(step, args=ocp.args.Composite(state=wanted))["state"]
        return header, [
            arrays.get(key, np.zeros(leaf["shape"], leaf["dtype"]))
            for key, leaf in zip(_keys(leaves), leaves, strict=True)
        ]

    def _rebuild(self, example, leaves: dict):
        wanted = [name for name, _ in _named(example)]
        if list(leaves) != wanted:
            other = ", ".join(sorted(leaves.keys() ^ set(wanted))) or "their order"
            raise ValueError(
                f"The checkpoints in {self.path} were made by another version of glassgrok (they "
                f"differ in {other}); resume with the version that provenance.json names."
            )
        return jax.tree.unflatten(jax.tree.structure(example), list(leaves.values()))

    @contextmanager
    def _sentences(self, what: str):
        try:
            with _quiet():
                yield
        except Exception as error:
            raise OSError(
                f"{what} could not be written to {self.path} ({_first_line(error)}); make room "
                "there and resume."
            ) from error


@contextmanager
def _quiet():
    """Keep the warnings of Orbax about its own future from the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    """Why, in a few words; TensorStore puts the system's at the end of a long line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    found = re.search(r": ([^:]+) \[os_error_code", str(error))
    if found:
        return found[1]
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _named(tree) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _keys(leaves: list[dict]) -> list[str]:
    """A name for each array that Orbax takes and a reader recognises."""
    return [
        f"{i:03d}_" + "".join(c if c.isalnum() else "_" for c in leaf["name"]).strip("_")
        for i, leaf in enumerate(leaves)
    ]


def _size(leaf: dict) -> int:
    return int(np.prod(leaf["shape"]))


def _kind(leaf) -> str:
    if isinstance(leaf, np.generic):
        return "scalar"
    # type, not isinstance: a bool is an int too.
    return {bool: "bool", int: "int", float: "float"}.get(type(leaf), "array")


def _as_kind(kind: str, array: np.ndarray):
    if kind == "array":
        return array
    return array[()] if kind == "scalar" else array.item()


def _digest(header: dict, arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    told = {"leaves": header["leaves"], "about": header["about"]}
    digest.update(json.dumps(told, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
