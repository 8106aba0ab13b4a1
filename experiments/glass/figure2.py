"""Figure 2 of Zhang et al. (2025): landscapes on the sphere of fixed weight norm, three widths.

    python experiments/glass/figure2.py [--scale quick | cpu | paper]

x + y, on the great circles of the sphere |θ| = 30 at p = 67, which is 1.14 times the norm that free
AdamW ends with there (figure5.py: 26.2). At p = 13 free networks 12 to 32 wide end with 14.6 to
21, mostly 15.6, and are held at 18; on spheres as small as 0.72 of the initial norm, which 30 is at
p = 67, none of them fits, and width 8 does not fit at 18. AdamW is held on the sphere too. Runs are
kept as in figure1.py.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated

import tyro
from figure1 import SIZES, Landscapes, config_of, sampled, show

from glassgrok.config import AxisConfig, Config, DomainConfig, ModelConfig
from glassgrok.experiment import command

NORM = {"quick": 8.91, "cpu": 18.0, "paper": 30.0}
QUICK_U = AxisConfig(0.3, 0.9, 6)  # below, the smallest networks lose their walkers
CPU_U = AxisConfig(-5.0, 1.0, 24)  # down to -8 width 24 takes twice as long
WIDTHS = {"quick": (8, 16), "cpu": (12, 16, 24), "paper": (32, 64, 128)}
CPU_RUNG = 800  # steps at each rung


@dataclass(frozen=True)
class Choice(Landscapes):
    """What to run.

    Attributes:
        widths: of the networks; all of the scale's if not given.
    """

    widths: Annotated[tuple[int, ...], tyro.conf.arg(metavar="WIDTH ...")] = field(default=())


def width_of(scale: str, width: int) -> ModelConfig:
    """The network of the scale at another width, its parts in the same proportion."""
    model = SIZES[scale].model
    d_mlp = model.d_mlp * width // model.d_model
    return replace(model, d_model=width, d_head=width // model.heads, d_mlp=d_mlp)


def sphere(scale: str, width: int) -> Config:
    """The run of one width."""
    config, model = config_of(scale, "x+y"), width_of(scale, width)
    radius = NORM[scale]
    if scale == "cpu":
        umbrella = replace(config.umbrella, rung_steps=CPU_RUNG)
        config = replace(config, umbrella=umbrella, grid=replace(config.grid, ln_loss=CPU_U))
    if scale == "quick":
        # Free along A: so few steps cannot spread walkers over columns that overlap.
        quick = replace(config.umbrella, rung_steps=100, steps=200, columns=0)
        config = replace(config, umbrella=quick, grid=replace(config.grid, ln_loss=QUICK_U))
    return replace(
        config,
        model=model,
        domain=DomainConfig("shell", radius=radius),
        training=replace(config.training, norm=radius, weight_decay=0.0, learning_rate=1e-3),
    )


def main(options: Choice) -> None:
    """Sample the widths, draw and write."""
    p, found = SIZES[options.scale].modulus, {}
    unknown = set(options.widths) - set(WIDTHS[options.scale])
    if unknown:
        raise ValueError(
            f"There is no width {min(unknown)} at scale {options.scale}; choose from "
            f"{', '.join(map(str, WIDTHS[options.scale]))}."
        )
    for width in options.widths or WIDTHS[options.scale]:
        config = sphere(options.scale, width)
        found[f"width {width}, norm {config.domain.radius:g}"] = sampled(
            options, f"sphere-{width}", config
        )
        show(options, "figure2", f"Entropy landscapes of x + y mod {p} at fixed weight norm", found)


if __name__ == "__main__":
    command(main, Choice, __doc__)
