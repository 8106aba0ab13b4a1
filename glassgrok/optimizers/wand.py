"""WanD: Wang-Landau molecular dynamics in ln train loss as an Optax optimizer."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from glassgrok.domains import Free
from glassgrok.dynamics import middle_step, paper_step
from glassgrok.grid import Axis

AXIS = Axis("ln_loss", -30.0, 5.0, 1750)
_KERNELS = {"middle": middle_step, "paper": paper_step}
_TINY = 1e-37  # the least loss: ln of a float32 that underflowed would be -inf


class WandState(NamedTuple):
    """All that the next step needs.

    Attributes:
        count: int32 scalar, the updates done.
        key: uint32, data of the JAX key of the noise; a plain array, so that NumPy and Orbax can
            hold it.
        velocity: like the parameters.
        entropy: (bins,) float32 in nats, what visits have deposited; the bias is not in it.
        ln_loss: float32 scalar, the running mean of ln L in nats.
        descent: AdamW's state, empty without a hand-over.
    """

    count: jax.Array
    key: jax.Array
    velocity: Any
    entropy: jax.Array
    ln_loss: jax.Array
    descent: Any


@dataclass(frozen=True)
class WandConfig:
    """The numbers of `wand` beside its learning rate, as a config file holds them.

    Attributes:
        friction: c_f, the share of the velocity that one step forgets.
        kT: temperature at the start.
        anneal: share of the steps over which kT falls to 0 like a cosine; 0 keeps it.
        beta: strength of the bias, nats per squared nat of ln L.
        L0: ln L above which the bias acts.
        F_WL: nats that a visit deposits when it deposits most.
        t_WL: step at which that is.
        scheme: "middle", or "paper" for the step as printed.
        max_kick: bound on what the force does to the velocities in one step, in units of sqrt(kT);
            None for none.
        handover: ln L at which AdamW begins to take over, and has; None for never.
        decay: of the weights by the AdamW that takes over, beside the training's `weight_decay`,
            which acts all the time.

    Raises:
        ValueError: as `wand`, or anneal is not between 0 and 1.
    """

    friction: float = 0.5
    kT: float = 1.0
    anneal: float = 1.0
    beta: float = 10_000.0
    L0: float = -8.0
    F_WL: float = 1.0
    t_WL: float = 1000.0
    scheme: Literal["middle", "paper"] = "middle"
    max_kick: float | None = 1.5
    handover: tuple[float, float] | None = None
    decay: float = 0.0

    def __post_init__(self):
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal must be between 0 and 1, but is {self.anneal}; change it.")
        wand(0.0, **self.options(1) | {"kT": self.kT})

    def options(self, steps: int) -> dict:
        """The keywords of `wand` for a training of so many steps."""
        named = asdict(self)
        share = named.pop("anneal")
        if share:
            named["kT"] = optax.cosine_decay_schedule(self.kT, math.ceil(share * steps))
        return named


def wand(
    learning_rate: optax.ScalarOrSchedule,
    *,
    key=0,
    friction: float = 0.5,
    kT: optax.ScalarOrSchedule = 1.0,
    beta: float = 10_000.0,
    L0: float = -8.0,
    F_WL: float = 1.0,
    t_WL: float = 1000.0,
    scheme: Literal["middle", "paper"] = "middle",
    max_kick: float | None = 1.5,
    handover: tuple[float, float] | None = None,
    decay: float = 0.0,
    memory: float = 0.99,
    sigma: float = 0.3,
    axis: Axis = AXIS,
) -> optax.GradientTransformationExtraArgs:
    """v' = (1 - c_f) v - S'(u) grad u dt + sqrt(c_f (2 - c_f) kT) xi, theta' = theta + v' dt.

    Zhang et al. (2025), Eqs. 3 and 5 to 7 in one dimension, u = ln L: S(u) is what visits have
    deposited plus beta (u - L0)^2 where u > L0, and each step adds F_WL min(t/t_WL, t_WL/t) in a
    Gaussian about u. That is scheme="paper" with max_kick=None. `update` takes the gradient of the
    train loss L and needs L itself: update(gradient, state, params, value=L). Mass and k_B are 1,
    so a velocity has the unit of a parameter, and time none.

    What the paper lacks: scheme="middle" samples kT, where the printed step samples (1 - c_f/2) kT;
    `max_kick` bounds what the force does in one step, without which ln L blows up; kT may be a
    schedule, to anneal; `handover` goes over to AdamW as the train loss falls. Test data play no
    part.

    Args:
        learning_rate: dt, the time step, or a schedule of it over the updates.
        key: JAX key or integer seed, of the first velocities and of the noise.
        friction: c_f, the share of the velocity that one step forgets, in (0, 1].
        kT: temperature, the variance of a velocity, at least 0; or a schedule of it.
        beta: strength of the bias in nats per squared nat of u, at least 0.
        L0: u in nats above which the bias acts.
        F_WL: nats that a visit deposits over all bins together when it deposits most, at least 0.
        t_WL: step at which that is, positive.
        scheme: "middle", kick, half drift, exact Ornstein-Uhlenbeck, half drift; or "paper".
        max_kick: most that the force may change the velocities in one step, as root mean square
            over all parameters in units of the thermal velocity sqrt(kT), so that an annealed
            walker comes to rest; positive, None for no bound.
        handover: (from, to), from > to: the running mean of u in nats below which an update is
            shared with AdamW's, and below which it is AdamW's alone; None for never.
        decay: weight decay of that AdamW, at least 0; with 0 it is Adam. 0 without a hand-over.
        memory: share of the running mean of u that a step keeps, in [0, 1).
        sigma: width of the Gaussian in nats of u, positive.
        axis: the bins of S over u, fixed; u beyond them feels the bias and the slope at the edge.

    Returns:
        An Optax transformation; its updates are to be added, as `optax.apply_updates` does.

    Raises:
        ValueError: a number is out of its range, or `update` is called without `value`, or without
            the parameters where weights decay.
    """
    _check(locals())
    adam = optax.identity()
    if handover is not None:
        adam = optax.scale_by_adam(0.9, 0.98)
        if not (isinstance(decay, (int, float)) and decay == 0):  # that needs the parameters
            adam = optax.chain(adam, optax.add_decayed_weights(decay))

    def init(params):
        key_data, noise = _draw(_canonical(key), params)
        return WandState(
            count=jnp.int32(0),
            key=key_data,
            velocity=_scaled(jnp.sqrt(_at(kT, 0)), noise),
            entropy=jnp.zeros(axis.bins, jnp.float32),
            ln_loss=jnp.float32(0),
            descent=adam.init(params),
        )

    def push(gradient, loss, entropy, dt, heat):
        """-S'(u) grad u, bounded."""
        u = jnp.log(loss)
        slope = _slope(entropy, u, axis) + 2 * beta * jnp.maximum(u - L0, 0.0)
        # In this order: slope / loss would overflow where the loss is very small.
        force = _scaled(-slope, _scaled(1 / loss, gradient))
        if max_kick is None:
            return force
        return _bounded(force, max_kick * jnp.sqrt(heat) / jnp.maximum(dt, _TINY))

    def deposit(entropy, u, t):
        """S with the visit of step t."""
        centers = jnp.asarray(axis.centers, jnp.float32)
        bump = jax.nn.softmax(-(((centers - u) / sigma) ** 2) / 2)  # sums to 1
        return entropy + F_WL * jnp.minimum(t / t_WL, t_WL / t) * bump

    def update(updates, state, params=None, *, value=None, **_):
        if value is None:
            raise ValueError(
                "wand needs the train loss beside its gradient, but value is None; call "
                "update(gradient, state, params, value=loss)."
            )
        loss = jnp.maximum(jnp.asarray(value, jnp.float32), _TINY)
        dt, heat = _at(learning_rate, state.count), _at(kT, state.count)
        force = push(updates, loss, state.entropy, dt, heat)
        held = jax.random.wrap_key_data(state.key, impl=jax.random.key_impl(_canonical(key)))
        key_data, noise = _draw(held, updates)
        kernel = _KERNELS[scheme]
        step, velocity = _moved(kernel, state.velocity, force, noise, dt, friction, heat)
        kept = jnp.where(state.count == 0, 0.0, memory)
        ln_loss = kept * state.ln_loss + (1 - kept) * jnp.log(loss)
        descent = state.descent
        if handover is not None:
            with jax.numpy_dtype_promotion("standard"):  # Optax's Adam mixes dtypes
                down, descent = adam.update(updates, descent, params)
            step = _blended(step, down, dt, _share(ln_loss, handover))
        count = state.count + 1
        entropy = deposit(state.entropy, jnp.log(loss), count.astype(jnp.float32))
        return step, WandState(count, key_data, velocity, entropy, ln_loss, descent)

    return optax.GradientTransformationExtraArgs(init, update)


def _check(given: dict) -> None:
    """Refuse numbers out of range; what is traced cannot be looked at."""
    ranges = {
        "learning_rate": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
        "friction": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
        "kT": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
        "beta": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
        "L0": (lambda v: -math.inf < v < math.inf, "finite"),
        "F_WL": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
        "decay": (lambda v: 0 <= v < math.inf, "at least 0 and finite"),
        "t_WL": (lambda v: 0 < v < math.inf, "positive and finite"),
        "max_kick": (lambda v: 0 < v < math.inf, "positive and finite, or None"),
        "memory": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
        "sigma": (lambda v: 0 < v < math.inf, "positive and finite"),
    }
    for name, (right, wanted) in ranges.items():
        value = given[name]
        if isinstance(value, (int, float)) and not right(value):
            raise ValueError(f"{name} of wand must be {wanted}, but is {value}; change it.")
    if given["scheme"] not in _KERNELS:
        raise ValueError(
            f"scheme of wand must be one of: {', '.join(_KERNELS)}, but is {given['scheme']!r}."
        )
    handover = given["handover"]
    if handover is not None and not (len(handover) == 2 and handover[0] > handover[1]):
        raise ValueError(
            "handover of wand must be two values of ln train loss, the higher one first, but is "
            f"{handover}; give (from, to) or None."
        )
    if handover is None and isinstance(given["decay"], (int, float)) and given["decay"]:
        raise ValueError(
            f"decay of wand is that of the AdamW which takes over, but is {given['decay']} without "
            "a handover; give one, or chain wand with optax.add_decayed_weights."
        )
    if given["axis"].bins < 3:
        raise ValueError("axis of wand needs at least 3 bins for a slope; give it more.")


def _canonical(key):
    """A typed JAX key, of one or of a seed."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return key if typed else jax.random.key(key)


def _at(number, count):
    """The value of a number or schedule; a cosine that ends at 0 may end a rounding below it."""
    value = number(count) if callable(number) else number
    return jnp.maximum(jnp.asarray(value, jnp.float32), 0.0)


def _draw(key, tree):
    """The data of the next key, and standard normal noise like `tree`."""
    following, key = jax.random.split(key)
    leaves, structure = jax.tree.flatten(tree)
    # One draw for all leaves compiles ten times as fast as one for each.
    flat = jax.random.normal(key, (sum(leaf.size for leaf in leaves),), jnp.float32)
    noise, begin = [], 0
    for leaf in leaves:
        part = flat[begin : begin + leaf.size].reshape(leaf.shape)
        noise.append(part.astype(leaf.dtype))
        begin += leaf.size
    return jax.random.key_data(following), jax.tree.unflatten(structure, noise)


def _scaled(factor, tree):
    return jax.tree.map(lambda leaf: (factor * leaf.astype(jnp.float32)).astype(leaf.dtype), tree)


def _slope(entropy, u, axis: Axis):
    """dS/du from the bins beside that of u, as the paper takes it; at the edge, of the edge."""
    place = jnp.floor((u - axis.low) / axis.width)
    middle = jnp.clip(place, 1, axis.bins - 2).astype(jnp.int32)
    return (entropy[middle + 1] - entropy[middle - 1]) / (2 * axis.width)


def _bounded(force, most):
    """The force with at most this root mean square over all parameters."""
    leaves = jax.tree.leaves(force)
    squares = sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves)
    rms = jnp.sqrt(squares / max(sum(leaf.size for leaf in leaves), 1))
    over = rms > most  # no tiny number below: XLA may multiply it with another, to 0
    return _scaled(jnp.where(over, most / jnp.where(over, rms, 1.0), 1.0), force)


def _moved(kernel, velocity, force, noise, dt, friction, kT):
    """The change of the parameters in one step, and the velocities after it."""
    numbers = [jnp.asarray(n, jnp.float32) for n in (dt, friction, kT)]

    def one(v, f, n):
        # From the origin: what is wanted is the change, which x + dx - x would round.
        wide = [leaf.astype(jnp.float32) for leaf in (v, f, n)]
        x, w = kernel(jnp.zeros_like(wide[0]), *wide, *numbers, Free())
        return x.astype(v.dtype), w.astype(v.dtype)

    both = jax.tree.map(one, velocity, force, noise)
    return jax.tree.transpose(jax.tree.structure(velocity), jax.tree.structure((0, 0)), both)


def _share(ln_loss, handover):
    """Share of AdamW in an update: 0 above, 1 below, a smooth cubic between."""
    start, end = handover
    x = jnp.clip((start - ln_loss) / (start - end), 0.0, 1.0)
    return x * x * (3 - 2 * x)


def _blended(step, down, dt, share):
    def one(w, d):
        mixed = (1 - share) * w.astype(jnp.float32) - share * dt * d.astype(jnp.float32)
        return mixed.astype(w.dtype)

    return jax.tree.map(one, step, down)
