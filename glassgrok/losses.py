"""Loss and rightness of each example of a `Supervised` task."""

import jax
import jax.numpy as jnp
import numpy as np

from glassgrok.tasks.supervised import Supervised


def check_outputs(task: Supervised, outputs: tuple[int, ...]) -> None:
    """Make sure that what a model gives can be compared with the targets.

    Args:
        task: the examples.
        outputs: shape of one output of the model.

    Raises:
        ValueError: it cannot.
    """
    wanted = np.shape(task.targets)[1:]
    if task.loss == "binary_cross_entropy":
        if int(np.prod(outputs)) != 1:
            raise ValueError(
                f"binary_cross_entropy takes one logit an example, but the model on {task.name} "
                f"gives {outputs}; give it one output."
            )
    elif task.labelled:
        lowest, highest = int(np.min(task.targets)), int(np.max(task.targets))
        if len(outputs) != 1 or lowest < 0 or highest >= outputs[0]:
            raise ValueError(
                f"{task.name} has the classes {lowest} to {highest}, but the model gives outputs "
                f"of the shape {outputs}; give it one output for each class, counted from 0."
            )
    elif outputs != wanted and not (wanted == () and outputs == (1,)):
        raise ValueError(
            f"The targets of {task.name} have the shape {wanted}, but the model gives {outputs}; "
            "make them alike."
        )


def example_scores(task, outputs, targets):
    """The loss of each example, and whether it counts as right.

    mse: mean over components of (output - target)²; cross_entropy: -ln softmax(output)[target];
    binary_cross_entropy: ln(1 + exp z) - y z.

    Args:
        task: says the loss, the tolerance and whether targets are classes, as a Supervised does.
        outputs: (k, ...) what the model gave.
        targets: (k, ...) of the same examples.

    Returns:
        losses (k,) float and right (k,) float, 1 or 0; NaN where nothing says what right means: one
        component and no tolerance.
    """
    count = len(targets)
    if task.loss == "binary_cross_entropy":
        logit, truth = outputs.reshape(count), targets.astype(outputs.dtype)
        losses = jax.nn.softplus(logit) - truth * logit
        return losses, ((logit > 0) == (truth > 0)).astype(losses.dtype)
    if task.loss == "cross_entropy":
        chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), targets[:, None], axis=1)
        right = jnp.argmax(outputs, axis=1) == targets
        return -chosen[:, 0], right.astype(outputs.dtype)
    if task.labelled:
        targets = jax.nn.one_hot(targets, outputs.shape[1], dtype=outputs.dtype)
    apart = outputs.reshape(count, -1) - targets.reshape(count, -1)
    losses = jnp.mean(apart**2, axis=1)
    if task.tolerance is not None:
        right = losses < task.tolerance
    elif apart.shape[1] == 1:
        return losses, jnp.full_like(losses, jnp.nan)
    else:
        largest = (jnp.argmax(a.reshape(count, -1), axis=1) for a in (outputs, targets))
        right = jnp.equal(*largest)
    return losses, right.astype(losses.dtype)
