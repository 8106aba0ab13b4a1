"""Checkpoints: any pytree of arrays and numbers, written by Orbax and checked when read."""

import hashlib
import json
import logging
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
        step: of the checkpoint.
        tree: the pytree; arrays are NumPy arrays of the type they were saved with.
        about: the metadata.
    """

    step: int
    tree: Any
    about: dict


class Checkpoints:
    """The checkpoints of one stage of a run, in a folder of their own.

    Orbax restores flipped bytes silently, so a sha256 of everything lies beside the arrays.

    Args:
        path: the folder; made with the first checkpoint.
        keep: how many of the latest checkpoints stay.
    """

    def __init__(self, path: Path, keep: int = 2):
        # What goes wrong in a background thread is raised here later; a log would say it twice.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.path = Path(path)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
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
            self._manager.save(step, args=items)

    def wait(self) -> None:
        """Return when all is on the disk; raises OSError if it cannot be written."""
        with self._sentences("The last checkpoint"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def restore(self, example) -> Restored | None:
        """Read the latest checkpoint that is whole; damaged ones after it are removed.

        Args:
            example: a pytree of the structure that was saved; its leaves do not matter.

        Returns:
            A Restored, or None where there is no checkpoint at all.

        Raises:
            ValueError: there are checkpoints, but none is whole, or they hold something else.
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
                why = (str(error).splitlines() or [type(error).__name__])[0][:200]
                print(
                    f"Warning: the checkpoint of step {step} in {self.path} is damaged ({why}).",
                    file=sys.stderr,
                )
                continue
            for bad in damaged:  # else the step could not be saved again
                self._manager.delete(bad)
            return Restored(step, self._rebuild(example, header, arrays), header["about"])
        if damaged:
            raise ValueError(
                f"None of the checkpoints {damaged} in {self.path} is whole; restore the folder "
                "from a copy, or start again with --overwrite."
            )
        return None

    def _read(self, step: int) -> tuple[dict, list[np.ndarray]]:
        only = ocp.args.Composite(about=ocp.args.JsonRestore())
        header = self._manager.restore(step, args=only)["about"]
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

    def _rebuild(self, example, header: dict, arrays: list[np.ndarray]):
        saved, wanted = [leaf["name"] for leaf in header["leaves"]], [n for n, _ in _named(example)]
        if saved != wanted:
            other = ", ".join(sorted(set(saved) ^ set(wanted))) or "their order"
            raise ValueError(
                f"The checkpoints in {self.path} were made by another version of glassgrok (they "
                f"differ in {other}); resume with the version that provenance.json names."
            )
        kinds = [leaf["kind"] for leaf in header["leaves"]]
        leaves = [_as_kind(kind, array) for kind, array in zip(kinds, arrays, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(example), leaves)

    @contextmanager
    def _sentences(self, what: str):
        try:
            with _quiet():
                yield
        except Exception as error:
            raise OSError(
                f"{what} could not be written to {self.path} ({error}); make room there and resume."
            ) from error


@contextmanager
def _quiet():
    """Keep the warnings of Orbax about its own future from the user's terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
