"""Whether the Goldilocks zone is where the volume is, for the report on Liu et al. (2023)."""

import numpy as np
from entropy_goldilocks import CASES

from glassgrok.claims import OPEN, Claim, verdict

PICTURES = {f"entropy_{case}": f"Where the volume is: {title}" for case, title in CASES.items()}
ENOUGH = 4  # spheres on which a train loss must be known
SURE = 3.0  # errors by which the densest sphere leads those that are no neighbours of it


def _densest_generalise(found):
    """At the train loss that most spheres reach, the lowest of these."""
    levels = [
        (level, [i for i, f in enumerate(level["fraction"])
                 if None not in (f, level["error"][i], level["ln_test_loss"][i])])
        for level in found["levels"]
    ]  # fmt: skip
    level, known = max(levels, key=lambda one: len(one[1]), default=(None, []))
    if len(known) < ENOUGH:
        return f"no train loss is known on {ENOUGH} spheres", OPEN
    fraction, error, test = (
        np.array([level[name][i] for i in known]) for name in ("fraction", "error", "ln_test_loss")
    )
    densest, best = int(fraction.argmax()), int(test.argmin())
    alphas = [found["alphas"][i] for i in known]
    told = (
        f"at ln train loss {level['u']:.4g}, on {len(known)} spheres, networks that fit are "
        f"densest at alpha {alphas[densest]:g}, and generalise best in equilibrium at "
        f"{alphas[best]:g}; trained ones at {found['lowest_test']:g}"
    )
    # Errors of 0.2 nats, which `samples` asks for, are not needed where fractions differ by tens.
    failed = {name for i in known for name in found["failed"][i].split(", ")} - {"", "samples"}
    if failed:
        return f"{told}; not converged ({', '.join(sorted(failed))})", OPEN
    far = [i for i in range(len(known)) if abs(i - densest) > 1]
    lead = (fraction[densest] - fraction[far]) / np.hypot(error[densest], error[far])
    if min(lead, default=0) < SURE:
        return f"{told}; which is densest is not known", OPEN
    if {densest, best} & {0, len(known) - 1}:
        return f"{told}; one is at an end of what is known", OPEN
    return told, verdict(abs(densest - best) <= 1)


CLAIMS = tuple(
    Claim(
        f"the sphere that generalises best is the one where most networks fit: {title} (our "
        "question)",
        (f"entropy_{case}",),
        _densest_generalise,
        late=case != "mnist",  # their numbers were there when the rule was set or changed
    )
    for case, title in CASES.items()
)
