"""Config: one run from task to landscape, as YAML and as the options of the command line."""

import dataclasses
import math
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import pydantic
import yaml

from glassgrok.domains import Box, Domain, Free, Shell
from glassgrok.grid import Axis, Grid
from glassgrok.models import Transformer
from glassgrok.sampling.config import SamplerConfig, UmbrellaConfig
from glassgrok.system import System, network
from glassgrok.tasks import modular
from glassgrok.tasks.task import Task
from glassgrok.training import TrainingConfig

# What the quickstart asks of the two, and of Wang-Landau where that is asked for.
QUICK_TRAINING = TrainingConfig(steps=2000, learning_rate=1e-2, seeds=6)
QUICK_UMBRELLA = UmbrellaConfig(
    groups=6,
    steps=300,
    block=25,
    rung_steps=200,
    spread=2.0,
    columns=0,
    omega_dt=0.5,
    sweepers=2,
    tile=2,
)
QUICK_SAMPLER = SamplerConfig(
    steps=42_000, walkers=16, tile=2, omega_dt=0.4, ladder_steps=300, coarse=1.0
)


@dataclass(frozen=True)
class TaskConfig:
    """Modular arithmetic: which examples there are, and which of them train.

    Attributes:
        operation: one of `tasks.modular.OPERATIONS`, or a Python expression of x, y and p such as
            (x + 2*y)**2.
        modulus: p; there are p * p examples.
        train_fraction: share of the examples that trains.
        seed: seed of the split.
    """

    operation: str = "x+y"
    modulus: int = 13
    train_fraction: float = 0.7
    seed: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The transformer.

    Attributes:
        d_model: width of the residual stream.
        heads: attention heads.
        d_head: width of a head.
        d_mlp: hidden neurons of the MLP.
        layers: blocks of attention and MLP.

    Raises:
        ValueError: one of them is below 1.
    """

    d_model: int = 32
    heads: int = 4
    d_head: int = 8
    d_mlp: int = 64
    layers: int = 1

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but is {value}.")


@dataclass(frozen=True)
class DomainConfig:
    """The part of parameter space whose volume is measured.

    Attributes:
        kind: "box", "shell" or "free".
        half_width: of the box, for each weight; none means 3/sqrt(fan_in), as in the paper.
        radius: of the shell: the norm of all weights together.

    Raises:
        ValueError: a length is not positive.
    """

    kind: Literal["box", "shell", "free"] = "box"
    half_width: float | None = None
    radius: float = 30.0

    def __post_init__(self):
        for name in ("half_width", "radius"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, but is {value}.")


@dataclass(frozen=True)
class AxisConfig:
    """One axis of the grid.

    Attributes:
        low: its lower edge.
        high: its upper edge.
        bins: how many bins lie between them.

    Raises:
        ValueError: the axis runs downwards, is not finite, or has fewer than two bins.
    """

    low: float
    high: float
    bins: int

    def __post_init__(self):
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(
                f"an axis must run upwards between finite edges, but goes from {self.low} to "
                f"{self.high}; swap or change the two."
            )
        if self.bins < 2:
            raise ValueError(f"an axis needs at least 2 bins, but has {self.bins}.")


@dataclass(frozen=True)
class GridConfig:
    """Where the landscape is measured.

    Attributes:
        ln_loss: u, the ln of the train loss, in nats.
        test_accuracy: A, the smooth test accuracy.
    """

    ln_loss: AxisConfig = AxisConfig(-5.0, 1.0, 24)
    test_accuracy: AxisConfig = AxisConfig(0.1, 1.0, 18)


@dataclass(frozen=True)
class Config:
    """A whole run; the defaults are the quickstart.

    Attributes:
        task: what is learned.
        model: the network.
        domain: the part of parameter space that is measured.
        accuracy_slope: steepness of the smooth test accuracy; 7 in the paper.
        training: how the trajectory on the landscape is trained, or none.
        grid: where the landscape is measured.
        umbrella: how it is measured absolutely by umbrella windows; none for the sampler.
        sampler: how it is measured by a ladder, Wang-Landau and a production; used without
            umbrella alone.
        trained_starts: trained networks that some of the groups start from, the rest from random
            ones, so that starts from opposite ends can be compared; empty for none. With umbrella
            windows each has witnesses, that S is not made of.
        warm_start: folder of a run of the same task, model and grid, whose V, dt and walls the
            sampler's walkers begin with in place of the ladder's; or none.
        seed: of everything random but the split; the same seed gives the same results.

    Raises:
        ValueError: accuracy_slope is not positive, seed is negative, or umbrella is given together
            with warm_start or in free space.
    """

    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    domain: DomainConfig = DomainConfig()
    accuracy_slope: float = 7.0
    training: TrainingConfig | None = QUICK_TRAINING
    grid: GridConfig = GridConfig()
    umbrella: UmbrellaConfig | None = QUICK_UMBRELLA
    sampler: SamplerConfig = QUICK_SAMPLER
    trained_starts: tuple[Literal["memorising", "generalising"], ...] = ()
    warm_start: str | None = None
    seed: int = 0

    def __post_init__(self):
        if not 0 < self.accuracy_slope < math.inf:
            raise ValueError(
                f"accuracy_slope must be positive and finite, but is {self.accuracy_slope}."
            )
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, but is {self.seed}.")
        if self.umbrella is not None and self.warm_start is not None:
            raise ValueError(
                "umbrella windows begin with the whole domain and take no warm_start; leave that "
                "out, or say umbrella: null for Wang-Landau sampling."
            )
        if self.umbrella is not None and self.domain.kind == "free":
            raise ValueError(
                "umbrella windows measure fractions of the domain, but domain.kind is free; make "
                "it box or shell, or say umbrella: null for Wang-Landau sampling."
            )

    @property
    def tiles(self) -> int:
        """Tiles of walkers, which devices share."""
        if self.umbrella is None:
            return self.sampler.tiles
        groups = self.umbrella.groups + self.umbrella.witnesses * len(self.trained_starts)
        return groups * self.umbrella.copies

    @property
    def changeable(self) -> str:
        """The field that may be changed of a run that has begun."""
        return "sampler.steps" if self.umbrella is None else "umbrella.steps"


def build_task(config: Config) -> Task:
    """The examples and their split; raises ValueError where the task has none."""
    task = config.task
    return modular(task.operation, task.modulus, task.train_fraction, task.seed)


def build_model(config: Config, task: Task) -> Transformer:
    """The network for the task."""
    sizes = dataclasses.asdict(config.model)
    return Transformer(vocabulary=task.classes, context=task.inputs.shape[1], **sizes)


def build_domain(config: Config) -> Domain:
    """Box, Shell or Free."""
    domain = config.domain
    if domain.kind == "shell":
        return Shell(domain.radius)
    return Box(domain.half_width) if domain.kind == "box" else Free()


def build_grid(config: Config) -> Grid:
    """The grid over u and A."""
    axes = dataclasses.asdict(config.grid)
    return Grid(*(Axis(name, **axis) for name, axis in axes.items()))


def build_system(config: Config) -> System:
    """The network on its task in its domain; raises ValueError where they do not fit together."""
    task = build_task(config)
    model = build_model(config, task)
    return network(model, task, build_domain(config), config.accuracy_slope)


def load(path: Path) -> Config:
    """Read a YAML file; fields that it does not hold are as in the quickstart.

    Args:
        path: the file.

    Returns:
        The Config.

    Raises:
        ValueError: the file cannot be read or parsed, or a field is unknown or holds what it
            cannot, or it has a section sampler and does not say umbrella: null (a saved config has
            both); one sentence with the file, the field, what was found and what may be.
    """
    values = _parse(path)
    _check_names(path, Config, values)
    if "sampler" in values and "umbrella" not in values:
        raise ValueError(
            f"{path} has a section sampler, which umbrella windows do not use, and they are how a "
            "config samples that does not say otherwise; add 'umbrella: null', or leave sampler "
            "out."
        )
    try:
        return _adapter().validate_python(_merge(dataclasses.asdict(Config()), values))
    except pydantic.ValidationError as error:
        raise ValueError(f"{path}: {_sentence(error)}") from None


def dump(config: Config) -> str:
    """The YAML that `load` reads back as the same Config."""
    plain = _adapter().dump_python(config, mode="json")
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def plain(config: Config) -> dict:
    """The config as JSON holds it; of `warm_start` the folder's name, not where it lies."""
    values = _adapter().dump_python(config, mode="json")
    if config.warm_start is not None:
        values["warm_start"] = Path(config.warm_start).name
    return values


def differences(one: dict, other: dict) -> dict[str, tuple[Any, Any]]:
    """Where two plain configs differ.

    Args:
        one, other: what `plain` returns, of any version.

    Returns:
        Dotted field -> its values in the two; None where one has no such field.
    """
    found = {}
    for name in one | other:
        values = one.get(name), other.get(name)
        if all(isinstance(value, dict) for value in values):
            found |= {f"{name}.{n}": pair for n, pair in differences(*values).items()}
        elif values[0] != values[1]:
            found[name] = values
    return found


def newer(one: dict, other: dict) -> list[str]:
    """Dotted fields of a plain config that another one, of another version, does not have."""
    found = [name for name in other if name not in one]
    for name in one.keys() & other.keys():
        if isinstance(one[name], dict) and isinstance(other[name], dict):
            found += [f"{name}.{field}" for field in newer(one[name], other[name])]
    return found


@cache
def _adapter() -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(Config)


def _parse(path: Path) -> dict:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"There is no file {path}; give the path of a YAML config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); give the path of a YAML config."
        ) from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(
            f"{path} is not valid YAML{place}: {problem or error}; correct the file."
        ) from None
    if not isinstance(values, dict):
        raise ValueError(
            f"{path} must hold fields such as 'seed: 0', but holds {show(values)}; "
            "see experiments/quickstart/quickstart.yaml."
        )
    return values


def _check_names(path: Path, kind, values: dict, inside: str = "") -> None:
    """Say which field does not exist, and which one was probably meant."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            near = get_close_matches(str(name), hints, n=1)
            hint = f"did you mean {inside}{near[0]}?" if near else f"it has {', '.join(hints)}."
            raise ValueError(
                f"{path}: there is no field {inside}{name}; "
                f"{hint if near else (inside.rstrip('.') or 'a config') + ': ' + hint}"
            )
        nested = _section(hints[name])
        if nested and isinstance(value, dict):
            _check_names(path, nested, value, f"{inside}{name}.")
        # Pydantic would take yes and no for the numbers 1 and 0.
        if isinstance(value, bool) and hints[name] is not bool:
            raise ValueError(
                f"{path}: {inside}{name} is {show(value)}, which is neither a number nor a "
                "word; correct it."
            )


def _section(hint):
    """The dataclass in a type hint, if there is one."""
    kinds = [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
    return kinds[0] if kinds else None


def _merge(defaults: Any, values: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(values, dict)):
        return values
    return defaults | {name: _merge(defaults.get(name), value) for name, value in values.items()}


def _sentence(error: pydantic.ValidationError) -> str:
    """The first wrong field, what it should be and what it is."""
    found = [(_field(item["loc"]), item) for item in error.errors()]
    field, first = found[0]
    if first["type"] == "value_error":
        return f"{field}: {first['ctx']['error']}" if field else str(first["ctx"]["error"])
    wanted = [
        "a section with fields of its own"
        if item["type"].startswith("dataclass")
        else item["msg"].split(",")[0].removeprefix("Input should be ")
        for name, item in found
        if name == field
    ]
    choice = " or ".join(dict.fromkeys(wanted))
    return f"{field} must be {choice}, but is {show(first['input'])}; correct it."


def _field(location: tuple) -> str:
    """Dotted path of a field, without the names that Pydantic gives to the members of a union."""
    kind, path = Config, []
    for name in location:
        hints = get_type_hints(kind) if kind else {}
        if name not in hints:
            break
        path.append(name)
        kind = _section(hints[name])
    return ".".join(path)


def show(value) -> str:
    """A value of a field, as a sentence tells it."""
    if value is None:
        return "empty"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
