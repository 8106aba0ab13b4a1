"""Whether the Goldilocks zone is where the volume is, for the report on Liu et al. (2023)."""

import numpy as np
from entropy_goldilocks import CASES

from glassgrok.claims import OPEN, Claim, verdict

PICTURES = {f"entropy_{case}": f"Where the volume is: {title}" for case, title in CASES.items()}
NEAR = 1.5  # ratio of neighbouring alphas
ENOUGH = 3  # spheres on which a train loss must be known


def _densest_generalise(found):
    """At the lowest train loss that enough spheres reach."""
    for level in found["levels"]:
        known = [
            f is not None and t is not None
            for f, t in zip(level["fraction"], level["ln_test_loss"], strict=True)
        ]
        if sum(known) >= ENOUGH:
            break
    else:
        return "too few spheres reach the train losses", OPEN
    densest, best = level["densest"], level["generalises"]
    told = (
        f"at ln train loss {level['u']:.1f} networks that fit are densest on the sphere alpha "
        f"{densest:g}, and generalise best in equilibrium at {best:g}; trained ones at "
        f"{found['lowest_test']:g}"
    )
    # Errors of 0.2 nats, which `samples` asks for, are not needed where fractions differ by tens.
    other = {name for some, k in zip(found["failed"], known, strict=False) if k
             for name in some.split(", ")} - {"", "samples"}  # fmt: skip
    if other:
        return f"{told}; not converged ({', '.join(sorted(other))})", OPEN
    return told, verdict(abs(np.log(densest / best)) < np.log(NEAR) + 1e-9)


CLAIMS = tuple(
    Claim(
        f"the sphere that generalises best is the one where most networks fit: {title} (our "
        "question)",
        (f"entropy_{case}",),
        _densest_generalise,
        late=True,  # it compares too few spheres, without their errors, to decide anything yet
    )
    for case, title in CASES.items()
)
