"""One block against a loop in Python, tiles on 1 and 2 devices, NaN walkers, compilation."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glassgrok.domains import Box, Free
from glassgrok.dynamics import middle_step
from glassgrok.engine import block as engine_block
from glassgrok.engine.devices import choose
from glassgrok.engine.walkers import Drive, stretch
from glassgrok.grid import Axis, Grid
from glassgrok.models import Transformer
from glassgrok.potential import interpolate
from glassgrok.sampling.blocks import visits_of
from glassgrok.sampling.config import SamplerConfig
from glassgrok.sampling.sampler import (
    ADAPTATION,
    LADDER,
    PRODUCTION,
    STAGES,
    advance,
    build,
    finished,
    initialise,
)
from glassgrok.sampling.wang_landau import deposit, kernels
from glassgrok.system import System, network
from glassgrok.tasks import modular

KEY = jax.random.key(0)
SIZE = 6
PLANE = Grid(Axis("u", -3.0, 1.0, 8), Axis("a", -1.0, 1.0, 5))


def observe(x):
    """A well in all directions but the first, and the first; the rest are extras."""
    return jnp.log(jnp.sum(x[1:] ** 2) / 2), x[0], {"second": x[1], "constant": 2.0}


WELL = System(lambda key: jax.random.normal(key, (SIZE,)) / 2, observe, Free(), hard="second")


def configured(**changes):
    few = {
        "steps": 200,
        "walkers": 16,
        "tile": 2,
        "groups": 4,
        "dt": 0.05,
        "settle": 0.0,
        "audit": 0.0,
    }
    short = {"ladder_steps": 0, "f0": 1.0, "wall": 2.0, "sync": 5, "block": 10, "friction": 0.1}
    at_once = {"settle": 0.0, "audit": 0.0, "quiet": 0.0}
    return SamplerConfig(**(few | short | at_once | changes))


@pytest.fixture(scope="module")
def well():
    program = build(WELL, PLANE, configured(), KEY)
    return program, initialise(program, WELL, KEY)


def fresh(program, state):
    """The state with walkers of its own; a block takes away those that it is given."""
    return state._replace(walkers=program.devices.scatter(program.devices.gather(state.walkers)))


def rough_drive():
    """V rough enough to feel, and deposits."""
    random = np.random.default_rng(0)
    table = (3 * random.normal(size=PLANE.shape)).astype(np.float32)
    return Drive(
        table=table,
        wall=np.array([2.0, 3.0], np.float32),
        beta=np.float32(0.7),
        deposit=np.float32(0.3),
        matrices=tuple(m.astype(np.float32) for m in kernels(PLANE, 1.0)),
        dt=np.float32(0.05),
        friction=np.float32(0.1),
    )


def by_hand(program, walkers, drive, steps, sync):
    """The block as a loop over steps: (positions, velocities, samples per step, last V)."""

    @jax.jit
    def potential(x, table):
        values = jnp.stack(observe(x)[:2])
        bias = interpolate(PLANE, table, drive.wall, values)
        return bias + drive.beta * jnp.exp(values[0]), (values, bias)

    force = jax.jit(jax.vmap(jax.grad(potential, has_aux=True), in_axes=(0, None)))

    noise = jax.jit(
        jax.vmap(
            lambda key, t: jax.random.normal(
                jax.random.fold_in(jax.random.wrap_key_data(key), t), (SIZE,)
            ),
            in_axes=(0, None),
        )
    )
    move = jax.jit(
        jax.vmap(lambda x, v, f, n: middle_step(x, v, f, n, drive.dt, drive.friction, 1.0, Free()))
    )
    x, v, keys = (a.reshape(-1, a.shape[-1]) for a in program.devices.gather(walkers))
    table, counts, samples = drive.table, np.zeros(PLANE.shape), []
    for t in range(steps):
        if t % sync == 0:
            grown = deposit(counts, tuple(np.asarray(m, float) for m in drive.matrices))
            table = (drive.table + drive.deposit * grown).astype(np.float32)
        slope, (values, bias) = force(x, table)
        values = np.asarray(values)
        inside = ((values >= [-3, -1]) & (values < [1, 1])).all(axis=1)
        cell = np.floor((values - [-3, -1]) / [0.5, 0.4]).astype(int)
        np.add.at(counts, tuple(cell[inside].T), 1)
        temperature = np.mean(np.square(v), axis=1)
        samples.append((values, inside, cell, np.asarray(bias), np.asarray(x), temperature))
        x, v = (np.asarray(a) for a in move(x, v, -slope, noise(keys, 30 + t)))
    return x, v, samples, counts


START = 30


def flat_walkers(array):
    """(tiles, steps, tile, ...) -> (steps, walkers, ...)."""
    moved = np.moveaxis(np.asarray(array), 1, 0)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])


def test_a_block_is_the_loop_by_hand(well):
    """Forces, noise, what each sample shows, and the growth of V between two sums."""
    program, state = well
    state, drive = fresh(program, state), rough_drive()
    x, v, by_step, counts = by_hand(program, state.walkers, drive, 10, 5)
    walkers, samples = program.run(state.walkers, drive, START)
    walkers = program.devices.gather(walkers)
    np.testing.assert_allclose(walkers.position.reshape(x.shape), x, atol=2e-5)
    np.testing.assert_allclose(walkers.velocity.reshape(v.shape), v, atol=2e-4)
    np.testing.assert_array_equal(visits_of(program, samples), counts)
    assert 20 < counts.sum() < 160  # some on the grid and some off it

    values, inside, cell, bias, position, temperature = map(np.array, zip(*by_step, strict=True))
    np.testing.assert_allclose(flat_walkers(samples.values), values, atol=1e-4)
    np.testing.assert_allclose(flat_walkers(samples.bias), bias, atol=1e-3)
    np.testing.assert_allclose(flat_walkers(samples.temperature), temperature, rtol=1e-3)
    index = np.where(inside, cell[..., 0] * 5 + cell[..., 1], PLANE.size)
    np.testing.assert_array_equal(flat_walkers(samples.bin), index)
    assert program.flat.extras == ("constant", "second")
    extras = flat_walkers(samples.extras)
    np.testing.assert_allclose(extras[..., 0], 2.0)
    np.testing.assert_allclose(extras[..., 1], position[..., 1], atol=2e-5)
    assert samples.accepted.all()
    assert samples.bin.dtype == np.int32


def test_v_does_not_grow_without_deposits(well):
    """One stretch of the whole block, or two with a sum between them: the same steps."""
    program, state = well
    frozen = rough_drive()._replace(deposit=np.float32(0))
    tiny = frozen._replace(deposit=np.float32(1e-30))
    results = [program.run(fresh(program, state).walkers, d, START) for d in (frozen, tiny)]
    (one, seen), (other, seen_too) = results
    assert np.asarray(one.position).tobytes() == np.asarray(other.position).tobytes()
    assert seen.values.tobytes() == seen_too.values.tobytes()
    grown = program.run(fresh(program, state).walkers, rough_drive(), START)[0]
    assert np.asarray(grown.position).tobytes() != np.asarray(one.position).tobytes()


def test_every_walker_has_its_own_noise(well):
    state = well[1]
    keys = np.asarray(state.walkers.key).reshape(16, -1)
    assert len(np.unique(keys, axis=0)) == 16
    velocity = np.asarray(state.walkers.velocity).reshape(16, -1)
    assert len(np.unique(velocity, axis=0)) == 16


# --- the number of devices ----------------------------------------------------------------------


def network_state(devices, spread, steps=40):
    """The states after each block of a small transformer."""
    task = modular("x+y", 7, 0.6)
    model = Transformer(vocabulary=8, d_model=8, heads=2, d_head=4, d_mlp=16)
    system = network(model, task)
    grid = Grid(Axis("ln_loss", 0.0, 1.6, 8), Axis("test_accuracy", 0.0, 1.0, 5))
    config = configured(steps=steps, dt=0.005, production=0.5, f0=20.0)
    program = build(system, grid, config, KEY, devices=devices, spread=spread)
    state = initialise(program, system, KEY)
    states = []
    while not finished(state):
        state, _ = advance(program, state)
        states.append(state._replace(walkers=program.devices.gather(state.walkers)))
    return states


@pytest.fixture(scope="module")
def networks():
    """(devices, spread) -> the states after each of four blocks of a small transformer."""
    return cache(network_state)


def assert_same_bits(one, other):
    for here, there in zip(one, other, strict=True):
        for a, b in zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_any_number_of_devices_gives_the_same_bits(networks):
    assert_same_bits(networks(1, "jit"), networks(2, "jit"))
    last = networks(2, "jit")[-1]
    assert len(networks(2, "jit")) == 4
    assert last.production.visits.sum() > 50
    assert np.isfinite(last.production.heat).all()
    assert (last.production.heat != 0).any()
    assert last.deposited > 0


@pytest.mark.slow  # two more programs to compile; the sums are tested for each spread below
def test_pmap_and_shard_map_give_the_same_bits(networks):
    assert_same_bits(networks(2, "pmap"), networks(2, "shard_map"))


@pytest.mark.slow  # as the one before
def test_a_partitioned_program_agrees_to_rounding_in_the_first_block(networks):
    one, two = networks(1, "jit")[0], networks(2, "pmap")[0]
    np.testing.assert_array_equal(one.walkers.key, two.walkers.key)
    np.testing.assert_allclose(one.walkers.position, two.walkers.position, atol=1e-4)
    np.testing.assert_allclose(one.walkers.velocity, two.walkers.velocity, atol=1e-2)
    # a walker within rounding of an edge may be counted on the other side
    assert np.abs(one.adaptation_visits - two.adaptation_visits).sum() <= 2


def test_an_unknown_spread():
    with pytest.raises(ValueError, match="spread must be one of jit, pmap, shard_map, but is 'x'"):
        choose(8, 2, "x")


@pytest.mark.parametrize("spread", ["jit", "pmap", "shard_map"])
def test_visits_are_summed_over_devices(spread):
    devices = choose(8, 2, spread)
    counts = np.arange(6, dtype=np.int32).reshape(2, 3)
    total = np.asarray(devices.join(devices.total(devices.place(counts))))
    np.testing.assert_array_equal(total, np.tile(counts.sum(axis=0), (2, 1)))
    assert total.dtype == np.int32


def test_pick():
    devices = choose(8, 2)
    walkers = devices.scatter(np.arange(8 * 2 * 3).reshape(8, 2, 3))
    picked = devices.pick(walkers, np.array([0, 15, 6]))
    np.testing.assert_array_equal(picked, np.arange(48).reshape(16, 3)[[0, 15, 6]])


def test_choose():
    assert [len(choose(tiles).local) for tiles in (8, 6, 7, 4, 3, 1)] == [2, 2, 1, 2, 1, 1]
    assert len(choose(8, 2).local) == 2
    assert choose(8, 2).tiles == 8


@pytest.mark.parametrize(("tiles", "count"), [(8, 0), (8, -1), (8, 3), (8, 5), (7, 2), (1, 2)])
def test_devices_that_do_not_fit(tiles, count):
    with pytest.raises(ValueError, match=f"{count} devices were asked for, but 2 are here"):
        choose(tiles, count)


def test_scatter_and_gather_are_inverse(well):
    state = well[1]
    for count in (1, 2):
        devices = choose(8, count)
        host = devices.gather(devices.scatter(well[0].devices.gather(state.walkers)))
        for a, b in zip(host, well[0].devices.gather(state.walkers), strict=True):
            np.testing.assert_array_equal(a, b)
        assert devices.scatter(host).position.shape == (count, 8 // count, 2, SIZE)


# --- walkers that are lost ----------------------------------------------------------------------


def poisoned(program, state, where, value=np.nan):
    host = program.devices.gather(state.walkers)
    position = host.position.copy()
    position[where] = value
    return state._replace(walkers=program.devices.scatter(host._replace(position=position)))


def in_production(program, state):
    return fresh(program, state)._replace(stage=STAGES.index(PRODUCTION), wall=np.array([2.0, 3.0]))


def test_a_nan_walker_deposits_nothing_is_rescued_and_counted(well):
    program, state = well
    state = in_production(program, state)
    healthy, _ = advance(program, fresh(program, state))
    sick, report = advance(program, poisoned(program, state, (3, 1)))
    assert report.rescued == sick.production.rescued == 1
    assert healthy.production.rescued == 0
    # The other groups saw nothing of it; its own (tiles 3 and 7) lost what it would have counted.
    others = np.arange(4) != 3
    for name, axis in [("visits", 1), ("weight", 1), ("extras", 0), ("joint", 0), ("heat", 0)]:
        a, b = (np.moveaxis(getattr(s.production, name), axis, 0) for s in (sick, healthy))
        np.testing.assert_array_equal(a[others], b[others])
        assert np.isfinite(a).all()
    counted = [s.production.visits[:, 3].sum() for s in (sick, healthy)]
    assert counted[0] < counted[1]
    assert not sick.production.seen[3, 1].any()
    # It goes on from a walker of its own group (tiles 3 and 7 of four groups), with new velocity.
    host, before = (program.devices.gather(s.walkers) for s in (sick, healthy))
    donors = np.concatenate([host.position[3, :1], host.position[7]])
    assert (host.position[3, 1] == donors).all(axis=1).sum() == 1
    assert np.isfinite(host.velocity).all()
    speeds = np.concatenate([host.velocity[3, :1], host.velocity[7]])
    assert not (host.velocity[3, 1] == speeds).any()
    np.testing.assert_array_equal(host.key, before.key)
    untouched = np.ones((8, 2), bool)
    untouched[3, 1] = False
    np.testing.assert_array_equal(host.position[untouched], before.position[untouched])
    # and from then on it counts
    after, report = advance(program, sick)
    assert report.rescued == 0
    assert after.production.visits.sum() > sick.production.visits.sum()


def test_a_nan_walker_deposits_nothing_in_the_adaptation(well):
    program, state = well
    sick, report = advance(program, poisoned(program, fresh(program, state), (0, 0)))
    assert STAGES[state.stage] == ADAPTATION
    assert report.rescued == 1
    assert np.isfinite(sick.entropy).all()
    assert sick.entropy.sum() == pytest.approx(sick.deposited, rel=1e-9)
    assert sick.deposited == pytest.approx(report.f * sick.adaptation_visits.sum(), rel=1e-9)


def test_a_group_of_nan_walkers_is_rescued_by_another():
    program = build(WELL, PLANE, configured(walkers=64, tile=2, groups=32), KEY)
    state = in_production(program, initialise(program, WELL, KEY))
    after, report = advance(program, poisoned(program, state, (5,)))
    assert report.rescued == 2
    assert np.isfinite(program.devices.gather(after.walkers).position).all()


def test_more_than_a_tenth_lost_stops_the_run(well):
    program, state = well
    two = poisoned(program, in_production(program, state), (3,))
    sentence = (
        r"2 of 16 walkers became NaN between steps 0 and 10 of the production; most likely the "
        r"time step 0.05 is too large for this potential: set a smaller sampler.dt"
    )
    with pytest.raises(FloatingPointError, match=sentence):
        advance(program, two)


def test_a_walker_thrown_out_of_range_disturbs_no_other(well):
    """Far beyond the float range of u: until the next sum of visits the others do not notice."""
    program, state = well
    state = in_production(program, state)
    for value in (1e25, -3e4):
        thrown = poisoned(program, fresh(program, state), (4, 0), value)
        drive = rough_drive()._replace(deposit=np.float32(0))
        frozen, _ = program.run(fresh(program, state).walkers, drive, START)
        sick, samples = program.run(thrown.walkers, drive, START)
        others = np.ones((8, 2), bool)
        others[4, 0] = False
        for one, other in zip(sick, frozen, strict=True):
            one, other = (program.devices.gather(a)[others] for a in (one, other))
            assert one.tobytes() == other.tobytes()
        assert (samples.bin[4, :, 0] == PLANE.size).all()  # it deposits nothing
        after, report = advance(program, poisoned(program, fresh(program, state), (4, 0), value))
        assert np.isfinite(after.production.weight).all()
        assert report.on_grid < 1


def test_infinite_walkers_count_as_lost(well):
    program, state = well
    state = poisoned(program, in_production(program, state), (2, 0), np.inf)
    after, report = advance(program, state)
    assert report.rescued == 1
    assert np.isfinite(program.devices.gather(after.walkers).position).all()


def test_nan_in_the_second_variable_alone():
    """u is fine, a is not: ln of a negative number, say."""

    def second(x):
        return jnp.where(x[0] < -1.0, jnp.nan, x[0])

    system = System(WELL.init, lambda x: (observe(x)[0], second(x)), Free())
    program = build(system, PLANE, configured(walkers=64, tile=2, groups=4), KEY)
    state = in_production(program, initialise(program, system, KEY))
    host = program.devices.gather(state.walkers)
    bad = host.position[..., 0] < -1.0
    assert 0 < bad.sum() < 6
    _, report = advance(program, state)
    assert report.rescued >= bad.sum()


def test_all_walkers_nan(well):
    program, state = well
    for stage in (ADAPTATION, PRODUCTION, LADDER):
        sick = poisoned(program, in_production(program, state), ...)
        sick = sick._replace(stage=STAGES.index(stage), level_step=1)
        sick.ladder.beta[0] = sick.ladder.dt[0] = 0.1
        with pytest.raises(
            FloatingPointError, match=r"16 of 16 walkers became NaN between steps 0 and 10"
        ):
            advance(program, sick)


def test_a_walker_off_the_grid_in_production_is_not_moved(well):
    """Walkers beyond the edge are part of the equilibrium; re-seeding them would disturb it."""
    program, state = well
    far = poisoned(program, in_production(program, state), (4, 0), 4.0)
    far = far._replace(wall=np.full(2, 1e-6), stage_step=-1)  # no wall to push it back
    near, report = advance(program, fresh(program, far))
    position = program.devices.gather(near.walkers).position[4, 0]
    assert np.abs(position - 4.0).max() < 3.0
    assert report.rescued == 0


def test_far_walkers_are_brought_back_in_the_adaptation(well):
    program, state = well
    far = poisoned(program, in_production(program, state), (4, 0), 40.0)
    back, report = advance(program, far._replace(stage=STAGES.index(ADAPTATION)))
    position = program.devices.gather(back.walkers).position[4, 0]
    assert np.abs(position).max() < 10
    assert report.rescued >= 1


# --- compilation --------------------------------------------------------------------------------


def test_the_block_is_traced_once_for_all_stages(monkeypatch):
    system = System(WELL.init, observe, Box(2.0))
    config = configured(steps=800, ladder_steps=20, f0="auto", dt="auto", wall="auto")
    traces = []

    def counted(flat, *how):
        run = stretch(flat, *how)

        def traced(*given):
            traces.append(jax.tree.map(jax.typeof, given[3]))
            return run(*given)

        return traced

    monkeypatch.setattr(engine_block, "stretch", counted)
    program = build(system, PLANE, config, KEY)
    state = initialise(program, system, KEY)
    stages = set()
    while not finished(state):
        state, report = advance(program, state)
        stages.add(report.stage)
    assert stages == {LADDER, ADAPTATION, PRODUCTION}
    assert len(traces) == 1, traces
