"""What a run shows in the terminal while it works."""

import sys
import time
from contextlib import contextmanager

ENDS = ("above", "below")  # of what windows know


@contextmanager
def display(shown: bool = True):
    """Live progress in a terminal; elsewhere a line every ten seconds; nothing if not `shown`."""
    if not shown:
        yield None
        return
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks = {}

        def show(now):
            # The stages of the sampler share one bar, as they share its steps.
            bar = now.stage if now.stage in ("train", "starts") else "sample"
            if bar not in tasks:
                tasks[bar] = bars.add_task(bar, total=now.total or None, told="")
            told, total = _told(now), now.total or None
            bars.update(
                tasks[bar], completed=now.step, total=total, description=now.stage, told=told
            )

        yield show


def _lines():
    last = [0.0, ""]

    def show(now):
        if now.stage != last[1] or time.monotonic() - last[0] >= 10:
            last[:] = time.monotonic(), now.stage
            far = f"{now.step:,} of {now.total:,}" if now.total else f"{now.step:,}"
            line = f"{now.stage}: step {far}, {_told(now)}"
            print(line.rstrip(", "), file=sys.stderr, flush=True)

    return show


def _of_windows(stage: str, values: dict) -> list[str]:
    """What a rung, or a block of all windows, showed."""
    words = [f"{values['rungs']} rungs down to u {values['u_low']:.4g}"]
    if stage == "cool":
        words.append(f"S' {values['slope']:.3g}, dt {values['dt']:.2g}")
    if values["windows"]:
        words.append(f"{values['windows']} windows")
    if stage == "windows":
        words.append(f"coverage {values['coverage']:.0%}")
        words.append(f"exchanges at least {values['accepted']:.0%}")
        words.append(f"{values['trips']} round trips in u")
        words += [
            f"S known {end} u {values[end]:.3g} alone" for end in ENDS if values[end] is not None
        ]
        if values["parted"]:
            words.append("half-way S was known nowhere")
    return words


def _told(now) -> str:
    """What a block showed, in a few words."""
    values, words = now.values, []
    unit = "steps/s" if now.stage in ("train", "starts") else "walker-steps/s"
    if now.rate:
        words.append(f"{now.rate:,.0f} {unit}")
    if "ln_train_loss" in values:
        words.append(f"u {values['ln_train_loss']:.2f}")
        words.append(f"test accuracy {values['test_accuracy']:.2f}")
    if "windows" in values:
        words += _of_windows(now.stage, values)
    elif "coverage" in values:
        if now.stage == "adaptation":
            words.append("filled, f decays" if values["filled"] else "filling")
        if now.stage != "ladder":  # it has no bins
            words.append(f"coverage {values['coverage']:.0%}")
        if now.stage != "ladder" and values["on_grid"] < 0.5:
            words.append(f"only {values['on_grid']:.0%} of the steps on the grid")
        words.append(f"u {values['u_low']:.1f} to {values['u_high']:.1f}")
        words.append(f"worst |T-1| {values['temperature_deviation']:.2f}")
        if values["acceptance"] < 1:
            words.append(f"accepted {values['acceptance']:.1%}")
    if now.seconds_left == now.seconds_left:
        minutes, seconds = divmod(round(now.seconds_left), 60)
        words.append(f"{minutes}:{seconds:02d} left")
    return ", ".join(words)
