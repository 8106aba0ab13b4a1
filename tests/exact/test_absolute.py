"""Absolute entropy by umbrella windows, against volumes that are known."""

from functools import cache
from math import lgamma, log, pi

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_systems import DIRECTIONS, PLANE, designed_case, designed_entropy
from scipy.special import erf, logsumexp

import glassgrok as gg
from glassgrok.analysis import convergence
from glassgrok.dynamics import thermal_drift
from glassgrok.engine import restrained
from glassgrok.sampling import sweep, umbrella
from glassgrok.sampling.apparatus import build, uniform_values

KEY = jax.random.key(0)


def well(d: int) -> gg.System:
    """u = ln(|x|²/2) in the box of half width 1."""
    return gg.System(
        lambda key: jax.random.normal(key, (d,)) / 10,
        lambda x: (jnp.log(jnp.sum(x**2) / 2),),
        gg.Box(1.0),
    )


def exact_log_z(d: int, beta: float) -> float:
    """ln of the mean of exp(-beta |x|²/2) over the box."""
    return d * (log(2 * pi / beta) / 2 + log(erf((beta / 2) ** 0.5)) - log(2))


def ball(d: int, u):
    """ln of the fraction of the box with |x|²/2 < e^u, where that ball lies inside."""
    return d / 2 * log(pi) - lgamma(d / 2 + 1) + d / 2 * (u + log(2)) - d * log(2)


def between(d: int, edges: np.ndarray) -> np.ndarray:
    """ln of the fraction between edges."""
    inner, outer = ball(d, edges[:-1]), ball(d, edges[1:])
    return outer + np.log1p(-np.exp(inner - outer))


@cache
def run(d: int, steps: int, seed: int = 0):
    grid = gg.Grid(gg.Axis("u", -4.0, log(d / 6) + 0.2, 20))
    config = gg.UmbrellaConfig(groups=16, steps=steps, omega_dt=0.1)
    return gg.umbrella(well(d), grid, config, jax.random.key(seed))


@pytest.mark.parametrize(
    ("d", "steps", "largest"), [(2, 6000, 0.15), (10, 4000, 0.3), (60, 2000, 0.8)]
)
def test_the_fraction_is_absolute(d, steps, largest):
    """Neighbouring bins err together: one number, so z < 5 of 15 degrees of freedom each."""
    found = run(d, steps)
    edges = found.grid.axes[0].edges
    inside = edges[1:] < log(0.5)  # the ball lies in the box
    off = (found.entropy - between(d, edges))[inside]
    error = found.entropy_error[inside]
    assert error.max() < largest
    assert (np.abs(off) < 5 * error).all()
    value, error = found.fraction(u_below=-2.0)
    below = edges[np.searchsorted(found.grid.axes[0].centers, -2.0)]
    wanted = ball(d, below) + np.log1p(-np.exp(ball(d, edges[0]) - ball(d, below)))
    assert abs(value - wanted) < 5 * error
    assert found.umbrella.overlap.min() > 0.1
    assert found.umbrella.accepted.min() > 0.05  # of hundreds of tries: no window is cut off


def test_canonical_averages_follow():
    """F = -T ln Z is absolute too."""
    found = run(10, 4000)
    beta = np.array([20.0, 60.0])  # u = ln(d/2 beta) lies well inside the grid
    canonical = gg.canonical(found, 1 / beta)
    off = -canonical.free_energy * beta - [exact_log_z(10, b) for b in beta]
    error = canonical.free_energy_error * beta
    assert (np.abs(off) < 5 * error).all()
    assert (error < 0.3).all()


def test_integration_along_the_windows_agrees():
    """d f / d t = <w_j - w_i>, between neighbours: another estimator of the same samples."""
    found = run(10, 4000).umbrella
    off = found.integral - found.free_energy
    assert (np.abs(off) < 5 * found.integral_error + 0.02).all()


# --- the work of coming down ----------------------------------------------------------------------


def test_the_work_of_64_groups_averages_to_what_each_rung_holds():
    """ln of the mean of e^-W is ln Z; the mean of ln e^-W, of 4 walkers each, is well below it."""
    config = gg.UmbrellaConfig(
        groups=64, rung_steps=400, omega_dt=0.1, patience=0, block=25, draws=4096
    )
    grid = gg.Grid(gg.Axis("u", -4.0, -0.75, 13))
    apparatus = build(well(20), grid, config, KEY)
    draws, begun, key = jax.random.split(KEY, 3)
    uniform = uniform_values(apparatus, draws)
    laying, last = sweep.begin(apparatus, uniform, begun), False
    while not last:
        laying, last = sweep.cool(apparatus, uniform, laying, key)
    u = np.linspace(-8.0, -0.8, 20_001)  # the ball lies in the box
    rungs = laying.rungs
    inside = rungs.mean[:, 0] + 6 * rungs.width < u[-1]
    assert inside.sum() > 10
    for r in np.flatnonzero(inside):
        log_s = ball(20, u) + log(10) - rungs.stiffness[r] * (u - rungs.center[r]) ** 2 / 2
        off = rungs.ln_z[r] - logsumexp(log_s) - log(u[1] - u[0])
        weight = np.exp(off)
        assert abs(weight.mean() - 1) < 5 * weight.std() / 8
        assert weight.std() / 8 < 0.3
    assert off.mean() < -5 * off.std() / 8


# --- the mean force as a divergence ---------------------------------------------------------------


def uneven(ratio: float, steps: int, rung_steps: int):
    """20 parameters, half of them stiffer by a ratio, and by how much S is wrong."""
    stiff = jnp.where(jnp.arange(20) < 10, ratio, 1.0)
    system = gg.System(
        lambda key: jax.random.normal(key, (20,)) / 10,
        lambda x: (jnp.log(jnp.sum(stiff * x**2) / 2),),
        gg.Box(1.0),
    )
    grid = gg.Grid(gg.Axis("u", -4.0, -0.75, 13))  # where the ball lies in the box
    config = gg.UmbrellaConfig(
        groups=8, steps=steps, rung_steps=rung_steps, omega_dt=0.2, patience=0, block=25
    )
    found = gg.umbrella(system, grid, config, KEY)
    wrong = found.entropy - between(20, grid.axes[0].edges) + 10 * log(ratio) / 2
    return found, wrong, divergence_check(found)


def test_in_equilibrium_the_divergence_agrees_with_the_restraints():
    found, wrong, check = uneven(1.0, steps=2000, rung_steps=400)
    off, error = found.umbrella.divergence[1:], found.umbrella.divergence_error[1:]
    assert check.passed
    assert error.max() < 0.02 * abs(found.entropy[0])
    assert (np.abs(off) < 5 * error).all()
    assert (np.abs(wrong) < 5 * found.entropy_error).all()
    assert (found.umbrella.work < 5 * found.umbrella.work_error).all()
    assert found.umbrella.work_error.max() < 0.05 * abs(found.entropy[0])
    assert (found.umbrella.work > -0.1 * abs(found.entropy[0])).all()  # eight groups of four
    # Here windows are rungs, whose free energies follow from all samples at once.
    assert found.umbrella.rung_ln_z == pytest.approx(-found.umbrella.free_energy, abs=0.05)


def test_walkers_that_are_too_hot_are_seen(monkeypatch):
    """<X . grad w> = T <div X>, so at T = 1.05 S is wrong by a twentieth of itself.

    2.5 nats, of which 2,000 steps, enough for the test before, know 0.55 and eight groups see less.
    """

    def hot(x, v, noise, dt, friction, kT, domain):
        return thermal_drift(x, v, noise, dt, friction, 1.05 * kT, domain)

    monkeypatch.setattr(restrained, "thermal_drift", hot)
    found, wrong, check = uneven(1.0, steps=8000, rung_steps=400)
    assert not check.passed
    off, error = found.umbrella.divergence[-1], found.umbrella.divergence_error[-1]
    assert abs(off + 0.05 * found.entropy[0]) < 5 * error
    assert wrong[0] < -5 * found.entropy_error[0]


def test_walkers_that_are_dragged_are_seen():
    """Stiff parameters are in equilibrium long before those that S hangs on as much."""
    found, wrong, check = uneven(1e4, steps=500, rung_steps=100)
    assert wrong[0] < -10 * found.entropy_error[0]
    assert not check.passed
    assert found.umbrella.divergence[-1] > 10 * found.umbrella.divergence_error[-1]


def divergence_check(found: gg.Landscape):
    (check,) = (c for c in convergence(found).checks if c.name == "divergence")
    return check


def test_where_the_gradient_jumps_the_divergence_agrees():
    """u = ln sum |x_i|, whose gradient is constant but for its jumps: (e^u)^d/d! of the box."""
    system = gg.System(
        lambda key: jax.random.normal(key, (20,)) / 10,
        lambda x: (jnp.log(jnp.sum(jnp.abs(x))),),
        gg.Box(1.0),
    )
    grid = gg.Grid(gg.Axis("u", -1.0, 0.0, 8))
    config = gg.UmbrellaConfig(groups=16, steps=2000, rung_steps=400, omega_dt=0.1, block=25)
    found = gg.umbrella(system, grid, config, KEY)
    edges = 20 * grid.axes[0].edges - lgamma(21)
    exact = edges[1:] + np.log1p(-np.exp(edges[:-1] - edges[1:]))
    assert (np.abs(found.entropy - exact) < 5 * found.entropy_error).all()
    off, error = found.umbrella.divergence[1:], found.umbrella.divergence_error[1:]
    assert divergence_check(found).passed
    assert error.max() < 0.05 * abs(found.entropy[0])
    assert (np.abs(off) < 5 * error).all()


@pytest.mark.parametrize("heat", [1.0, 1.2])
def test_on_a_sphere_the_divergence_agrees_unless_walkers_are_hot(monkeypatch, heat):
    """Where grad u points outwards more than along the sphere."""

    def hot(x, v, noise, dt, friction, kT, domain):
        return thermal_drift(x, v, noise, dt, friction, heat * kT, domain)

    monkeypatch.setattr(restrained, "thermal_drift", hot)
    stiff = jnp.linspace(1.0, 100.0, 20)
    system = gg.System(
        lambda key: jax.random.normal(key, (20,)) / 10,
        lambda x: (jnp.log(jnp.sum(stiff * x**2)),),
        gg.Shell(1.0),
    )
    grid = gg.Grid(gg.Axis("u", 2.5, 4.0, 8))
    config = gg.UmbrellaConfig(groups=8, steps=2000, rung_steps=400, omega_dt=0.2, block=25)
    found = gg.umbrella(system, grid, config, KEY)
    off, error = found.umbrella.divergence[-1], found.umbrella.divergence_error[-1]
    assert error < 0.05 * abs(found.entropy[0])
    assert abs(off + (heat - 1) * found.entropy[0]) < 5 * error + 0.1  # from the first rung on
    assert divergence_check(found).passed == (heat == 1)


HEIGHT, WIDTH = 20.0, 0.1  # of the barrier between the basins


def basins(x):
    """ln of the energy of two basins: 40 stiff directions where x_0 < 0, 20 where x_0 > 0."""
    energy = jnp.where(x[0] < 0, jnp.sum(x[1:] ** 2) / 2, jnp.sum(x[1:21] ** 2))
    return (jnp.log(energy + HEIGHT * jnp.exp(-((x[0] / WIDTH) ** 2) / 2)),)


def basins_below(u: float) -> float:
    """ln of the fraction of the box below u, where both balls lie in the box."""
    x = (np.arange(20_000) + 0.5) / 20_000
    left = np.exp(u) - HEIGHT * np.exp(-((x / WIDTH) ** 2) / 2)
    left = left[left > 0]
    stiff, soft = ball(40, np.log(left)), ball(20, np.log(left / 2))
    return float(logsumexp(np.append(stiff, soft)) - np.log(2 * len(x)))


@pytest.mark.parametrize("sweepers", [8, 1])
def test_basins_that_lose_less_volume_win(sweepers):
    """Half of the walkers fall into each basin, and at the end all volume is in the soft one.

    One walker a group, which cannot be drawn again, is the control: a mean of ln volumes.
    """
    system = gg.System(lambda key: jax.random.normal(key, (41,)) / 10, basins, gg.Box(1.0))
    grid = gg.Grid(gg.Axis("u", -3.0, 2.2, 26))
    config = gg.UmbrellaConfig(
        groups=8, sweepers=sweepers, rung_steps=800, steps=1500, block=25, omega_dt=0.2, draws=2048
    )
    found, edges = gg.umbrella(system, grid, config, KEY), grid.axes[0].edges
    below = np.array([basins_below(u) for u in edges[:16]])
    exact = below[1:] + np.log1p(-np.exp(below[:-1] - below[1:]))
    off, error = found.entropy[:15] - exact, found.entropy_error[:15]
    if sweepers > 1:
        assert error.max() < 1
        assert (np.abs(off) < 5 * error).all()
    else:
        assert off[0] < -5  # where the basins differ most; each walker in the stiff one costs 5


# A well whose S' falls from a peak of 18 to 10 around u = KNEE, and which below FORK has a soft and
# rare basin beyond x_0 = EDGE, where S' is 8: as below a learning transition.
KNEE, FORK, EDGE, NARROW = 0.7, 0.2, 0.85, 0.03
SOFTER, DIP = 0.25, 0.7  # du/d ln r² in the basin, above 1, and on the way there, below 1


def rate(x):
    far = (x - EDGE) / NARROW
    return 1 + SOFTER / (1 + np.exp(-far)) - DIP * np.exp(-(far**2) / 2)


def rare_basin(x):
    """20 directions; above FORK x_0 has no say."""
    e = jnp.log(jnp.sum(x[1:] ** 2) / 2)
    far = (x[0] - EDGE) / NARROW
    excess = SOFTER * jax.nn.sigmoid(far) - DIP * jnp.exp(-(far**2) / 2)
    u = e - excess * jnp.logaddexp(0.0, (FORK - e) / 0.1) * 0.1
    return (u - 2 / 3 * jnp.logaddexp(0.0, (u - KNEE) / 0.1) * 0.1,)


def rare_basin_below(u: float) -> float:
    """ln of the fraction of the box below u, where all balls lie in it."""
    x = 2 * (np.arange(40_000) + 0.5) / 40_000 - 1
    return float(logsumexp(ball(20, FORK + (u - FORK) / rate(x))) - np.log(len(x)))


@pytest.mark.parametrize(("crowd", "until"), [(16, 0.2), (16, 0.85), (1, 0.2)])
def test_a_rare_basin_is_found_by_more_walkers_where_they_part(crowd, until, monkeypatch):
    """One walker in thirteen falls into the basin that holds nearly all volume at the end.

    Here S' stays above a fifth of what it was there, so that all stay; it falls below 0.85 in the
    basin, where so many are drawn alike that few are enough. Without more of them, the control,
    most groups miss it.
    """
    monkeypatch.setattr(sweep, "PARTED", until)
    system = gg.System(lambda key: jax.random.normal(key, (21,)) / 10, rare_basin, gg.Box(1.0))
    grid = gg.Grid(gg.Axis("u", -4.5, 0.5, 25))
    config = gg.UmbrellaConfig(
        groups=6, sweepers=4, crowd=crowd, rung_steps=200, steps=1500, block=25, omega_dt=0.2
    )
    found, edges = gg.umbrella(system, grid, config, KEY), grid.axes[0].edges
    below = np.array([rare_basin_below(u) for u in edges[:17]])
    exact = below[1:] + np.log1p(-np.exp(below[:-1] - below[1:]))
    off, error = found.entropy[:16] - exact, found.entropy_error[:16]
    if crowd > 1:
        assert error.max() < 1
        assert (np.abs(off) < 5 * error).all()
        first, last = found.attributes["crowd"]
        assert first > 0
        assert last < -4 if until == 0.2 else -4 < last < 0
    else:
        assert off[0] < -2


# --- walkers that are dragged ---------------------------------------------------------------------

STIFFNESSES = np.logspace(0, -4, 20)  # of frequencies from 1 to 1/100


def valley(patience: int):
    """Fast cooling of a well with slow directions, and ln of the fraction of the box in each bin.

    Below u = -9.9 its ellipsoids lie inside the box.
    """
    system = gg.System(
        lambda key: jax.random.normal(key, (20,)) / 10,
        lambda x: (jnp.log(jnp.sum(jnp.asarray(STIFFNESSES, jnp.float32) * x**2) / 2),),
        gg.Box(1.0),
    )
    grid = gg.Grid(gg.Axis("u", -13.0, -10.0, 12))
    config = gg.UmbrellaConfig(
        groups=6, rung_steps=40, steps=500, block=10, omega_dt=0.3, patience=patience, explored=0.6
    )
    exact = between(20, grid.axes[0].edges) - np.log(STIFFNESSES).sum() / 2
    return gg.umbrella(system, grid, config, KEY), exact


def test_walkers_that_are_dragged_are_held_till_they_are_not():
    found, exact = valley(patience=4)
    off, error = found.entropy - exact, found.entropy_error
    assert error.max() < 1.6
    assert (np.abs(off) < 5 * error).all()
    assert found.attributes["explored"][0] >= 0.6


def test_that_walkers_were_dragged_is_seen_where_the_mean_force_does_not_show_it():
    """The control: S is 28 nats too low, nine of its errors, and the halves agree."""
    found, exact = valley(patience=0)
    off, error = found.entropy - exact, found.entropy_error
    assert off[0] < -20
    assert off[0] < -5 * error[0]
    passed = {check.name: check.passed for check in convergence(found).checks}
    assert not passed["dragged"]
    assert all(passed[name] for name in ("halves", "integral", "divergence", "windows"))


@pytest.mark.slow  # ten runs; each of the others looks at one
def test_errors_hold_over_seeds():
    """z of S at the lowest bins: the mean of 10 is 0 and its spread about 1."""
    z = []
    for seed in range(10):
        found = run(10, 4000, seed)
        off = found.entropy - between(10, found.grid.axes[0].edges)
        z.append((off / found.entropy_error)[0])
    assert abs(np.mean(z)) < 4 / np.sqrt(10)
    assert 0.4 < np.sqrt(np.mean(np.square(z))) < 1.6


# --- a first-order jump ---------------------------------------------------------------------------

JUMP = -25.0  # ln of the fraction of the domain where S' falls from 40 to 10


def u_of_fraction(q):
    """du/dq = 1/40 above the jump and 1/10 below: S' rises with u there faster than e^u does."""
    return q / 40 - (1 / 10 - 1 / 40) * jnp.logaddexp(0.0, JUMP - q)


def jump_system(d: int = 20) -> gg.System:
    """A radius in the box, so that ln(fraction with u below) is q exactly."""

    def observe(x):
        return (u_of_fraction(ball(d, jnp.log(jnp.sum(x**2) / 2))),)

    return gg.System(lambda key: jax.random.normal(key, (d,)) / 10, observe, gg.Box(1.0))


def test_a_first_order_jump_is_crossed():
    """No temperature holds the walkers between u = -.8 and -.65, where S'' > S'."""
    grid = gg.Grid(gg.Axis("u", -2.5, 0.3, 56))
    config = gg.UmbrellaConfig(groups=16, steps=3000, omega_dt=0.1)
    found = gg.umbrella(jump_system(), grid, config, KEY)
    q = np.linspace(-60, -17.5, 20_000)  # where the ball lies in the box
    below = np.interp(grid.axes[0].edges, np.asarray(u_of_fraction(q)), q, right=np.nan)
    exact = below[1:] + np.log1p(-np.exp(below[:-1] - below[1:]))
    known = np.isfinite(exact)
    assert known.sum() > 35
    off, error = (found.entropy - exact)[known], found.entropy_error[known]
    assert error.max() < 0.6
    assert (np.abs(off) < 5 * error).all()
    # That is a jump: at the temperature where both sides weigh the same there is a gap between.
    u = grid.axes[0].centers[known]
    beta = np.linspace(10, 60, 500)[:, None]
    weight = exact[known] - beta * np.exp(u)
    gap = np.minimum(weight[:, u < -0.85].max(axis=1), weight[:, u > -0.62].max(axis=1)) - (
        weight[:, (u > -0.8) & (u < -0.65)].min(axis=1)
    )
    assert gap.max() > 0.2


# --- two variables --------------------------------------------------------------------------------


@cache
def plane(name: str, seed: int = 0):
    config = gg.UmbrellaConfig(groups=16, steps=3000, omega_dt=0.1)
    return gg.umbrella(designed_case(name, "", None).system, PLANE, config, jax.random.key(seed))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("control", marks=pytest.mark.slow),  # the barrier is harder
        "barrier",
        pytest.param("first-order", marks=pytest.mark.slow),
    ],
)
def test_two_variables(name):
    """S(u, a) = k(a) u + c(a), and its constant: y has the fraction of a ball of radius 1.

    All bins share the error of the constant; what they differ in is known much better.
    """
    found = plane(name)
    exact = designed_entropy(name) + ball(DIRECTIONS, -log(2)) - log(PLANE.axes[1].bins)
    known = np.isfinite(found.entropy_error)
    assert known.all()
    off = found.entropy - exact
    assert np.sqrt(np.mean(off**2)) < 0.5
    assert np.std(off) < 0.3
    assert (np.abs(off) < 5 * found.entropy_error + 0.1).mean() > 0.98


# --- the negative control -------------------------------------------------------------------------


def test_exchanges_that_are_always_accepted_are_wrong(monkeypatch):
    class Always:
        def random(self, shape):
            return np.full(shape, 1e-300)

    exchange = umbrella.exchange
    monkeypatch.setattr(umbrella, "exchange", lambda *given: exchange(*given[:-1], Always()))
    found = run.__wrapped__(10, 4000)
    off = found.entropy[0] - between(10, found.grid.axes[0].edges)[0]
    assert abs(off) > 6 * found.entropy_error[0]
