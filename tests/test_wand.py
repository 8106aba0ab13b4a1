import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from glassgrok.grid import Axis
from glassgrok.optimizers import WandConfig, wand

AXIS = Axis("ln_loss", -3.0, 3.0, 60)
PRINTED = {"scheme": "paper", "max_kick": None, "handover": None}


@pytest.fixture
def params():
    one, two = jax.random.split(jax.random.key(0))
    return {"a": jax.random.normal(one, (3, 4)), "b": {"c": jax.random.normal(two, (5,))}}


def loss(params):
    return 0.1 + sum(jnp.sum(jnp.square(p)) for p in jax.tree.leaves(params))


def steps(optimizer, params, number, state=None):
    """`number` steps one by one, and all at once in a jitted scan."""
    state = optimizer.init(params) if state is None else state

    def one(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params, value=value)
        return (optax.apply_updates(params, updates), state), value

    plain = (params, state)
    for _ in range(number):
        plain, _ = one(plain, None)
    scanned = jax.jit(lambda carry: jax.lax.scan(one, carry, length=number)[0])((params, state))
    return plain, scanned


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(np.float64)


def assert_close(one, two, **how):
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(np.float64(a), np.float64(b), **how)


# --- the printed step -------------------------------------------------------------------------


def test_printed_steps_are_the_equations(params):
    """Eqs. 3, 5, 6 and 7 by hand in float64, with the noise that the steps drew."""
    dt, c, kT, beta, L0, F, t_WL, sigma = 0.01, 0.3, 0.7, 5.0, -1.0, 2.0, 2.0, 0.3
    params = jax.tree.map(lambda p: 0.3 * p, params)
    optimizer = wand(
        dt, key=3, friction=c, kT=kT, beta=beta, L0=L0, F_WL=F, t_WL=t_WL, sigma=sigma, axis=AXIS,
        **PRINTED,
    )  # fmt: skip
    state = optimizer.init(params)
    theta, v, S = flat(params), flat(state.velocity), np.zeros(60)
    _, first = jax.random.split(jax.random.key(3))
    np.testing.assert_allclose(v, np.sqrt(kT) * jax.random.normal(first, (17,)), rtol=1e-5)
    for t in (1, 2, 3, 4):
        _, drawn = jax.random.split(jax.random.wrap_key_data(state.key))
        xi = np.float64(jax.random.normal(drawn, (17,)))
        L, gradient = 0.1 + np.sum(theta**2), 2 * theta
        u = np.log(L)
        near = int(np.floor((u + 3) / 0.1))
        slope = (S[near + 1] - S[near - 1]) / 0.2 + 2 * beta * (u - L0)
        v = v - slope * gradient / L * dt - c * v + np.sqrt(c * (2 - c) * kT) * xi
        theta = theta + v * dt
        bump = np.exp(-((AXIS.centers - u) ** 2) / (2 * sigma**2))
        S = S + F * min(t / t_WL, t_WL / t) * bump / bump.sum()
        value, slopes = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(slopes, state, params, value=value)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(flat(params), theta, atol=2e-6)
        np.testing.assert_allclose(flat(state.velocity), v, atol=2e-5)
        np.testing.assert_allclose(state.entropy, S, atol=1e-5)
    assert S.max() > 0.5  # so that the deposits had a say


def test_below_L0_only_the_deposits_push(params):
    """With no deposit either, and no heat, nothing moves at all."""
    still = wand(0.01, kT=0.0, L0=50.0, F_WL=0.0, max_kick=None)
    (after, _), _ = steps(still, params, 3)
    assert_close(after, params)
    ramp = still.init(params)._replace(entropy=jnp.linspace(0.0, 1.0, 1750))
    (pushed, _), _ = steps(still, params, 3, ramp)
    assert loss(pushed) < loss(params)  # where S rises with u the force is downwards


# --- the temperature --------------------------------------------------------------------------


def heat(scheme, w2):
    """Mean and standard error of w2 x^2, or of v^2 where w2 is 0, over 4,000 walkers at kT = 0.5.

    The walkers are the coordinates of one parameter; u is held where S' is 1, so that the potential
    is w2 x^2 / 2, and equipartition makes either mean kT.
    """
    size = 4000
    optimizer = wand(
        0.1, key=1, friction=0.4, kT=0.5, beta=0.5, L0=-1.0, F_WL=0.0, scheme=scheme, max_kick=None
    )

    def one(carry, _):
        x, state = carry
        updates, state = optimizer.update(w2 * x, state, value=jnp.float32(1))
        return (x + updates, state), None

    start = jnp.zeros(size)
    (x, state), _ = jax.jit(lambda c: jax.lax.scan(one, c, length=400))(
        (start, optimizer.init(start))
    )
    squares = w2 * np.float64(x) ** 2 if w2 else np.float64(state.velocity) ** 2
    return squares.mean(), squares.std(ddof=1) / np.sqrt(size)


@pytest.mark.parametrize("w2", [0.0, 4.0, 100.0])
def test_the_middle_scheme_samples_kT(w2):
    """Flat, soft (omega dt = 0.2) and stiff (omega dt = 1): exact in all, for any stable step."""
    mean, error = heat("middle", w2)
    assert abs(mean - 0.5) < 4 * error
    assert error < 0.02


def test_the_printed_scheme_is_cooler():
    """In a soft well by 1 - c_f/2, which the bound of the test above tells apart."""
    mean, error = heat("paper", 4.0)
    assert abs(mean - 0.5) > 4 * error
    assert abs(mean - 0.5 * (1 - 0.4 / 2)) < 4 * error


# --- what the paper lacks ---------------------------------------------------------------------


@pytest.mark.parametrize("beta", [100.0, 1e5])
def test_the_force_kicks_the_velocities_by_max_kick_at_most(params, beta):
    """In units of sqrt(kT): what the force adds is the velocity with it less that without."""
    given = {"kT": 4.0, "beta": beta, "max_kick": 0.2, "L0": -3.0}
    value, gradient = jax.value_and_grad(loss)(params)

    def velocity(slope, **changes):
        optimizer = wand(0.1, friction=0.3, **(given | changes))
        _, state = optimizer.update(slope, optimizer.init(params), params, value=value)
        return flat(state.velocity)

    def rms(**changes):
        still = jax.tree.map(jnp.zeros_like, gradient)
        kick = velocity(gradient, **changes) - velocity(still, **changes)
        return np.sqrt(np.mean(kick**2))

    np.testing.assert_allclose(rms(), 0.2 * 2 * (1 - 0.3), rtol=1e-5)
    assert rms(max_kick=None) > 1
    free = rms(max_kick=None, beta=1e-3)
    np.testing.assert_allclose(rms(beta=1e-3), free, rtol=1e-5)  # a weak force is left alone


def test_an_annealed_temperature_ends_cold(params):
    schedule = optax.linear_schedule(1.0, 0.0, 50)
    optimizer = wand(0.01, friction=1.0, kT=schedule, beta=0.0, F_WL=0.0)
    (_, state), _ = steps(optimizer, params, 50)
    assert np.abs(flat(state.velocity)).max() > 0
    (_, state), _ = steps(optimizer, params, 1, state)
    np.testing.assert_array_equal(flat(state.velocity), 0)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_after_the_hand_over_it_is_adamw(params, decay):
    optimizer = wand(0.02, handover=(30.0, 20.0), decay=decay)  # ln L is below both
    (found, _), _ = steps(optimizer, params, 5)
    other = optax.adamw(0.02, 0.9, 0.98, weight_decay=decay)
    with jax.numpy_dtype_promotion("standard"):
        (adam, _), _ = steps(optax.with_extra_args_support(other), params, 5)
    assert_close(found, adam, rtol=1e-5, atol=1e-6)


def test_without_decay_it_does_not_need_the_parameters(params):
    optimizer = wand(0.02, handover=(30.0, 20.0))
    value, gradient = jax.value_and_grad(loss)(params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), value=value)
    assert np.isfinite(flat(updates)).all()


def test_before_the_hand_over_it_is_wand_and_between_a_mixture(params):
    def first(handover):
        optimizer = wand(0.02, handover=handover)
        value, gradient = jax.value_and_grad(loss)(params)
        updates, _ = optimizer.update(gradient, optimizer.init(params), params, value=value)
        return flat(updates)

    u = float(jnp.log(loss(params)))
    alone, adam = first(None), first((u + 2, u + 1))
    np.testing.assert_array_equal(first((u - 1, u - 2)), alone)
    x = 0.25
    share = 3 * x**2 - 2 * x**3
    mixed = first((u + 0.5, u - 1.5))
    np.testing.assert_allclose(mixed, share * adam + (1 - share) * alone, rtol=1e-3, atol=1e-6)
    assert np.abs(alone - adam).max() > 1e-2


# --- the contract of Optax --------------------------------------------------------------------


@pytest.mark.parametrize("given", [PRINTED, {}, {"handover": (2.0, 1.0)}])
def test_the_state_keeps_its_form_and_jit_and_scan_change_nothing(params, given):
    optimizer = wand(0.01, **given)
    state = optimizer.init(params)
    (after, later), (scanned, last) = steps(optimizer, params, 5)
    assert_close(after, scanned, rtol=1e-4, atol=1e-5)
    for other in (later, last):
        assert jax.tree.structure(other) == jax.tree.structure(state)
        for a, b in zip(jax.tree.leaves(other), jax.tree.leaves(state), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert int(last.count) == 5
    moved = optax.tree.map_params(optimizer, lambda leaf: leaf + 1, state)
    np.testing.assert_allclose(flat(moved.velocity), flat(state.velocity) + 1)
    np.testing.assert_array_equal(moved.entropy, state.entropy)


def parabola(params):
    return jnp.sum(jnp.square(params - jnp.array([1.0, -1.0, 1.0])))


def rosenbrock(params):
    return (1 - params[0]) ** 2 + 100 * (params[1] - params[0] ** 2) ** 2


@pytest.mark.parametrize(
    ("target", "start", "end"),
    [(parabola, [-1.0, 10, 1], [1.0, -1, 1]), (rosenbrock, [0.0, 0], [1.0, 1])],
)
def test_it_converges_where_it_hands_over_and_is_compiled_once(target, start, end):
    """The targets, steps and tolerance of Optax's own tests of its contrib optimizers."""
    optimizer = wand(0.01, kT=0.01, beta=10.0, handover=(-1.0, -3.0))

    @jax.jit
    def step(carry, _):
        value, gradient = jax.value_and_grad(target)(carry[0])
        updates, state = optimizer.update(gradient, carry[1], carry[0], value=value)
        return (optax.apply_updates(carry[0], updates), state), value

    carry = jnp.array(start), optimizer.init(jnp.array(start))
    alone = wand(0.01, kT=0.01, beta=10.0)  # both begin above the hand-over
    gradient, value = jax.grad(target)(carry[0]), target(carry[0])
    first, _ = alone.update(gradient, alone.init(carry[0]), value=value)
    np.testing.assert_allclose(step(carry, None)[0][0] - carry[0], first, atol=1e-6)
    for _ in range(3):
        carry, _ = step(carry, None)
    assert step._cache_size() == 1
    (found, _), _ = jax.lax.scan(step, carry, length=30_000)
    np.testing.assert_allclose(found, end, rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtypes_are_kept(dtype):
    params = jnp.array([1.0, 2.0], dtype)
    optimizer = wand(0.01, handover=(2.0, 1.0))
    state = optimizer.init(params)
    # A loss of another dtype than the parameters', and a branch, must find the same form.
    updates, after = jax.lax.cond(
        jnp.bool_(True),
        lambda: optimizer.update(2 * params, state, params, value=jnp.bfloat16(5), other=1),
        lambda: (params, state),
    )
    assert updates.dtype == params.dtype
    assert after.velocity.dtype == params.dtype


def test_hyperparameters_can_be_injected_and_scheduled(params):
    value, gradient = jax.value_and_grad(loss)(params)
    plain, injected = wand(0.01), optax.inject_hyperparams(wand)(0.01)
    one = plain.update(gradient, plain.init(params), params, value=value)
    state = injected.init(params)
    two = jax.jit(injected.update)(gradient, state, params, value=value)
    assert_close(one[0], two[0], rtol=1e-5, atol=1e-7)
    assert_close(one[1], two[1].inner_state, rtol=1e-5, atol=1e-6)
    state.hyperparams["learning_rate"] = jnp.float32(0.0)
    still, _ = injected.update(gradient, state, params, value=value)
    assert np.all(flat(still) == 0)
    scheduled = optax.inject_hyperparams(wand)(0.01, kT=optax.linear_schedule(1.0, 0.0, 10))
    assert float(scheduled.init(params).hyperparams["kT"]) == 1.0


def test_in_a_chain_and_with_accumulated_gradients(params):
    chain = optax.chain(optax.clip_by_global_norm(1.0), wand(0.01), optax.scale(2.0))
    value, gradient = jax.value_and_grad(loss)(params)
    doubled, _ = chain.update(gradient, chain.init(params), params, value=value)
    clipped = jax.tree.map(lambda g: g / optax.tree.norm(gradient), gradient)
    alone = wand(0.01)
    once, _ = alone.update(clipped, alone.init(params), params, value=value)
    np.testing.assert_allclose(flat(doubled), 2 * flat(once), rtol=1e-4, atol=1e-6)
    several = optax.MultiSteps(wand(0.01), every_k_schedule=4)
    with jax.numpy_dtype_promotion("standard"):
        waiting, _ = several.update(gradient, several.init(params), params, value=value)
    assert np.all(flat(waiting) == 0)


def test_seeds_side_by_side_are_what_they_are_alone(params):
    value, gradient = jax.value_and_grad(loss)(params)

    def updates(seed):
        optimizer = wand(0.01, key=seed)
        return optimizer.update(gradient, optimizer.init(params), params, value=value)[0]

    many = jax.vmap(updates)(jnp.arange(3))
    for seed in range(3):
        alone = updates(jax.random.key(seed))
        assert_close(jax.tree.map(lambda p, s=seed: p[s], many), alone, rtol=1e-5, atol=1e-7)
    assert np.all(many["a"][0] != many["a"][1])


def test_a_key_of_another_kind_is_kept(params):
    optimizer = wand(0.01, key=jax.random.key(0, impl="rbg"))
    (_, state), _ = steps(optimizer, params, 2)
    assert state.key.shape == (4,)
    assert np.any(state.key != optimizer.init(params).key)


@pytest.mark.parametrize("max_kick", [None, 1.0])
def test_a_loss_of_zero_gives_no_nan(params, max_kick):
    """Nor where S is so steep that S'/L is beyond float32."""
    optimizer = wand(0.01, max_kick=max_kick)
    nothing = jax.tree.map(jnp.zeros_like, params)
    steep = optimizer.init(params)._replace(entropy=jnp.linspace(0.0, 1e5, 1750))
    updates, state = optimizer.update(nothing, steep, params, value=0.0)
    assert np.all(np.isfinite(flat(updates)))
    assert np.isfinite(float(state.ln_loss))


def test_the_config_has_the_defaults_of_the_optimizer():
    defaults = {n: p.default for n, p in inspect.signature(wand).parameters.items()}
    options = WandConfig(anneal=0.0).options(100)
    assert options == {name: defaults[name] for name in options}
    annealed = WandConfig(kT=2.0, anneal=0.5).options(100)["kT"]
    np.testing.assert_allclose([annealed(0), annealed(25), annealed(50)], [2, 1, 0], atol=1e-6)


# --- mistakes ---------------------------------------------------------------------------------


def test_without_the_loss_it_says_so(params):
    optimizer = wand(0.01)
    with pytest.raises(ValueError, match="needs the train loss beside its gradient"):
        optimizer.update(params, optimizer.init(params), params)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate of wand must be at least 0"),
        ({"friction": 0.0}, "friction of wand must be above 0 and at most 1, but is 0.0"),
        ({"friction": 1.5}, "friction of wand must be above 0"),
        ({"kT": -0.1}, "kT of wand must be at least 0"),
        ({"beta": float("nan")}, "beta of wand must be at least 0"),
        ({"L0": float("inf")}, "L0 of wand must be finite"),
        ({"F_WL": -1.0}, "F_WL of wand must be at least 0"),
        ({"t_WL": 0}, "t_WL of wand must be positive"),
        ({"scheme": "euler"}, "one of: middle, paper, but is 'euler'"),
        ({"max_kick": 0.0}, "max_kick of wand must be positive and finite, or None"),
        ({"handover": (-8.0, -4.0)}, "the higher one first"),
        ({"handover": (1.0,)}, "two values"),
        ({"decay": -1.0}, "decay of wand must be at least 0"),
        ({"decay": 1.0}, "but is 1.0 without a handover"),
        ({"memory": 1.0}, "memory of wand must be at least 0 and below 1"),
        ({"sigma": 0.0}, "sigma of wand must be positive"),
        ({"axis": Axis("ln_loss", 0.0, 1.0, 2)}, "at least 3 bins"),
    ],
)
def test_wrong_settings_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        wand(**({"learning_rate": 0.01} | given))


def test_a_wrong_config_is_refused():
    with pytest.raises(ValueError, match="anneal must be between 0 and 1, but is 2"):
        WandConfig(anneal=2.0)
    with pytest.raises(ValueError, match="kT of wand must be at least 0"):
        WandConfig(kT=-1.0, anneal=0.5)
    with pytest.raises(ValueError, match="the higher one first"):
        WandConfig(handover=(-8.0, -4.0))
