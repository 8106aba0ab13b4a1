"""The scripts of experiments/glass at their quick scale, and what their helpers compute."""

import json
from dataclasses import replace

import ablation
import figure1
import figure2
import figure3
import figure4
import figure5
import figure6
import figure7
import glass
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import report
import xarray as xr
from scripts import written

import glassgrok as gg
from glassgrok import config as configs
from glassgrok import experiment
from glassgrok.claims import judged
from glassgrok.claims import report as write_report
from glassgrok.engine.session import Stopped
from glassgrok.landscape import Landscape
from glassgrok.training import optimizer_of

pytestmark = pytest.mark.usefixtures("promotion")


def test_figure4_shows_the_data_sets(tmp_path):
    figure4.main(glass.Options("quick", out=tmp_path))
    found, _ = written(tmp_path, "figure4")
    regular = [row["regularity"] for row in found["tasks"]]
    assert regular[0] == 1  # x + y: diagonal stripes
    assert 0.5 < regular[1] < 0.7  # x^2 + y: so along y alone
    assert regular[2] < 0.4
    assert all(row["train"] == round(0.5 * 49) for row in found["tasks"])


def test_figure5_trains_three_tasks(tmp_path):
    figure5.main(glass.Options("quick", out=tmp_path))
    found, text = written(tmp_path, "figure5")
    assert list(found["tasks"]) == ["x+y", "x^2+y", "x^3+xy^2+y"]
    for copies in found["tasks"].values():
        assert [copy["seed"] for copy in copies] == [0, 1]
        assert all(copy["ln_train_loss"] < 1 for copy in copies)
    assert text.count("\n| ") == 5


def test_figure6_holds_the_norm(tmp_path, monkeypatch):
    monkeypatch.setattr(figure6, "WIDTHS", (64,))  # each is two programs to compile
    figure6.main(glass.Options("quick", out=tmp_path))
    found, _ = written(tmp_path, "figure6")
    assert len(found["runs"]) == 2
    for run in found["runs"]:
        held = [abs(copy["weight_norm"] - 10) < 1e-3 for copy in run["copies"]]
        assert all(held) if "free" not in run["norm"] else not any(held)


def test_figure3_compares_and_goes_on_where_it_was(tmp_path):
    figure3.main(figure3.Choice("quick", out=tmp_path, only=("WanD", "Grokfast")))
    first, _ = written(tmp_path, "figure3")
    figure3.main(figure3.Choice("quick", out=tmp_path, only=("WanD", "SGLD")))
    found, text = written(tmp_path, "figure3")
    assert [run["method"] for run in found["runs"]] == ["WanD", "Grokfast", "SGLD"]
    assert found["runs"][:2] == first["runs"]
    assert text.count("\n| ") == 5
    with pytest.raises(ValueError, match="no method 'wand'"):
        figure3.main(figure3.Choice("quick", out=tmp_path, only=("wand",)))
    with pytest.raises(ValueError, match="holds runs of the scale quick, not cpu"):
        figure3.main(figure3.Choice("cpu", out=tmp_path))
    with pytest.raises(ValueError, match="has no runs in it"):
        figure3.main(figure3.Choice("quick", out=tmp_path / "other", draw=True))


def test_every_method_of_figure3_moves_and_differs():
    choice = figure3.Choice("quick")
    params = {"a": jnp.linspace(0.5, 1.0, 5)}
    gradient = {"a": jnp.linspace(-1.0, 1.0, 5)}
    moved = {}
    for name, method in figure3.METHODS.items():
        config = figure3.config_of(choice, "x+y", method)
        chain = method.optimizer(config, config.learning_rate, 0.0, jax.random.key(0))
        state = chain.init(params)
        for _ in range(2):  # the first of Adam is the same for all of its kin
            updates, state = chain.update(gradient, state, params, value=jnp.float32(2))
            gradient = {"a": gradient["a"] * jnp.array([1.0, 0.5, 2.0, 1.0, 3.0])}
        moved[name] = np.asarray(updates["a"])
    assert all(np.isfinite(u).all() and u.any() for u in moved.values())
    distinct = {tuple(np.round(u, 6)) for name, u in moved.items() if name != "Adam"}
    assert len(distinct) == len(figure3.METHODS) - 1  # Adam is AdamW where the decay is 0


def test_the_hybrid_is_wand_or_adamw_by_the_test_accuracy():
    method = figure7.CASES["hybrid, uses the test set"]
    config = figure3.config_of(figure3.Choice("quick"), "x+y", method)
    params, gradient = {"a": jnp.linspace(0.5, 1.0, 5)}, {"a": jnp.linspace(-1.0, 1.0, 5)}

    def moved(optimizer, decay, **known):
        chain = optimizer(config, 3e-3, decay, jax.random.key(0))
        known |= {"value": jnp.float32(2)}
        return np.asarray(chain.update(gradient, chain.init(params), params, **known)[0]["a"])

    wand = moved(optimizer_of, 0.0)
    adamw = moved(lambda c, *rest: optimizer_of(replace(c, optimizer="adamw"), *rest), 1.0)
    for accuracy, share in ((0.0, 1.0), (0.5, 0.0), (1.0, 1.0), (0.75, 0.25)):
        mixed = moved(method.optimizer, 1.0, test_accuracy=jnp.float32(accuracy))
        np.testing.assert_allclose(mixed, share * wand + (1 - share) * adamw, rtol=1e-5)
    assert np.abs(wand - adamw).max() > 1e-3


@pytest.mark.parametrize("script", [ablation, figure7])
def test_each_case_is_run_once(tmp_path, script, monkeypatch):
    many = 2 if script is ablation else 1
    monkeypatch.setattr(script, "CASES", dict(list(script.CASES.items())[:many]))
    monkeypatch.setattr(script, "OPERATIONS", ("x+y",))
    monkeypatch.setattr(figure7, "FRACTIONS", (0.5, 0.7))
    script.main(glass.Options("quick", out=tmp_path))
    name = script.__name__
    first, text = written(tmp_path, name)
    assert len(first["runs"]) == 2
    assert all(len(run["copies"]) == 2 for run in first["runs"])
    assert text.count("\n| ") == 4
    script.main(glass.Options("quick", out=tmp_path))
    assert written(tmp_path, name)[0] == first
    with pytest.raises(ValueError, match="holds runs of the scale quick, not cpu"):
        script.main(glass.Options("cpu", out=tmp_path))


def test_seeds_can_be_chosen():
    wand = figure3.METHODS["WanD"]
    assert [glass.Options(scale).copies for scale in ("quick", "cpu", "paper")] == [2, 2, 8]
    assert figure3.config_of(glass.Options("paper", seeds=3), "x+y", wand).seeds == 3
    with pytest.raises(ValueError, match="seeds must be at least 1, but is 0"):
        glass.Options(seeds=0)


def test_steps_and_delays_are_those_of_the_curves():
    steps = np.array([0, 10, 20, 30])
    train = np.array([[0.1, 0.1], [0.995, 0.2], [1.0, 0.3], [1.0, 0.4]])
    test = np.array([[0.0, 0.0], [0.1, 0.0], [0.5, 0.0], [0.99, 0.1]])
    same = {
        name: (("step", "copy"), train)
        for name in ("ln_train_loss", "train_accuracy", "weight_norm")
    }
    history = xr.Dataset(
        same | {"test_accuracy": (("step", "copy"), test)},
        {"step": steps, "seed": ("copy", [0, 1])},
    )
    one, two = glass.measured(history)
    assert (one["memorised"], one["generalised"], one["delay"]) == (10, 30, 20)
    assert (two["memorised"], two["generalised"], two["delay"]) == (None, None, None)
    assert two["best_test_accuracy"] == pytest.approx(0.1)
    assert experiment.spread([1, 3, None]) == "2 (1 to 3), 1 of 3 never"
    assert experiment.spread([None]) == "never"


def test_the_report_judges_what_is_there(tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        write_report(report.PAPER, tmp_path)
    copy = {"memorised": 100, "generalised": 900, "delay": 800, "test_accuracy": 1.0,
            "best_test_accuracy": 1.0}  # fmt: skip
    never = copy | {"generalised": None, "delay": None, "test_accuracy": 0.01}
    tasks = {"x+y": [copy, copy], "x^2+y": [copy, never], "x^3+xy^2+y": [never, never]}
    about = {"devices": ["cpu cpu"]}
    told = json.dumps({"scale": "cpu", "tasks": tasks, "provenance": about})
    (tmp_path / "figure5.json").write_text(told)
    rows = judged(tmp_path, report.CLAIMS)
    assert rows[0][1:] == ["delay 800 (800 to 800) steps, 9 times the steps to memorise", "agrees"]
    assert rows[1][2] == "**disagrees**"  # one of the two never did
    assert rows[2][2] == "**disagrees**"  # it was at 1.0 on the way
    assert {row[2] for row in rows[3:]} == {"not decided"}
    assert rows[-2][1] == "no figure1.json and no figure2.json here"
    wall = {"verdict": "NONE"}
    case = {
        "converged": True, "barrier": wall, "canonical_barrier": wall, "transition": wall,
        "lowest_A": [0.8, 0.1],
        "lowest_u": -7.9,
        "largest": {
            "A": [0.3, 0.1], "nats": [None, 2.0], "nats_at_least": 7.0, "u": -5.0,
            "training_A": 0.5, "range": [0.4, 0.55],
        },
    }  # fmt: skip
    cases = {name: case for name in tasks}
    told = {"scale": "cpu", "size": {"modulus": 13}, "cases": cases, "provenance": about}
    (tmp_path / "figure1.json").write_text(json.dumps(told))
    small = cases["x+y"] | {"largest": {"A": [0.05, None]}}
    (tmp_path / "figure2.json").write_text(json.dumps(told | {"cases": {"width 8": small}}))
    last = judged(tmp_path, report.CLAIMS)[-5:]
    assert [row[2] for row in last] == [
        "agrees", "not decided", "agrees", "agrees", "not decided"
    ]  # fmt: skip
    assert last[3][1] == "p = 13: free 0.30 in A; width 8 0.05"
    assert last[2][1].startswith(
        "p = 13: x+y 0.30 ± 0.1 in A, at least 7.0 ± 2.0 nats, at u -5.0; x^2+y"
    )
    fit = judged(tmp_path, report.CLAIMS)[-6]
    assert fit[1].startswith("p = 13: x+y A 0.80 ± 0.10 at u -7.9, x^2+y A")
    assert "(**disagrees**, by a rule set after the numbers)" in fit[1]  # 0.8 is not 0.9
    cases["x^2+y"] = case | {"lowest_A": [0.95, None]}
    (tmp_path / "figure1.json").write_text(json.dumps(told | {"cases": cases}))
    assert "x^2+y A 0.95 ± ? at u -7.9" in judged(tmp_path, report.CLAIMS)[-6][1]
    cases["x+y"] = case | {"largest": case["largest"] | {"A": [0.3, None], "nats": [2.0, 1.0]}}
    (tmp_path / "figure1.json").write_text(json.dumps(told | {"cases": cases}))
    unsure = judged(tmp_path, report.CLAIMS)[-3]
    assert unsure[1].startswith("p = 13: x+y 0.30 ± ? in A, 2.0 ± 1.0 nats, at u -5.0; x^2+y")
    assert unsure[2] == "not decided"
    one_above = case["largest"] | {"range": [0.4, 0.75]}
    cases["x+y"] = case | {"largest": one_above, "canonical_barrier": {"verdict": "BARRIER"}}
    (tmp_path / "figure1.json").write_text(json.dumps(told | {"cases": cases}))
    rows = judged(tmp_path, report.CLAIMS)[-5:]
    assert (rows[0][2], rows[2][2]) == ("**disagrees**", "**disagrees**")
    cases["x+y"] = case | {"largest": None}  # half of the seeds come nowhere
    (tmp_path / "figure1.json").write_text(json.dumps(told | {"cases": cases}))
    assert [row[2] for row in judged(tmp_path, report.CLAIMS)[-3:-1]] == ["not decided"] * 2
    cases["x+y"] = case | {"converged": False}
    (tmp_path / "figure1.json").write_text(json.dumps(told))
    assert judged(tmp_path, report.CLAIMS)[-5][1:] == [
        "p = 13: x+y NONE and NONE at fixed temperature, x^2+y NONE and NONE at fixed temperature; "
        "not converged",
        "not decided",
    ]  # fmt: skip
    write_report(report.PAPER, tmp_path)
    assert "| `figure5` | cpu | 1 × cpu cpu |  |" in (tmp_path / "README.md").read_text()
    assert experiment.table(["a"], [["|x|"]]).endswith("| \\|x\\| |\n")


def ridge() -> Landscape:
    """A ridge from A = 0.3 at u = 0 to 0.95 at u = -8, in six groups."""
    grid = gg.Grid(gg.Axis("ln_loss", -8.0, 0.0, 16), gg.Axis("test_accuracy", 0.0, 1.0, 20))
    u, a = (axis.centers for axis in grid.axes)
    entropy = 40 * u[:, None] - 70 * (a - 0.95 + 0.65 * (u[:, None] + 8) / 8) ** 2
    groups = entropy + 0.1 * np.random.default_rng(0).normal(size=(6, *grid.shape))
    error = np.full(grid.shape, 0.04)
    return Landscape(grid, groups.mean(0), error, np.full(grid.shape, 900), groups, ("random",) * 6)


def test_figures_1_and_2_judge_and_draw(tmp_path):
    step = np.arange(40)
    values = {
        "ln_train_loss": 1 - 0.25 * step,
        "smooth_test_accuracy": np.full(40, 0.2),
    }
    history = xr.Dataset(
        {name: (("step", "copy"), value[:, None]) for name, value in values.items()},
        {"step": step},
        {"record": "linear"},
    )
    # One that comes no lower than u = 0, and four of A = 0.7, 0.3, 0.2 and 0.5.
    high = history.assign(ln_train_loss=history.ln_train_loss.clip(0.0))
    others = [
        history.assign(smooth_test_accuracy=history.smooth_test_accuracy + more)
        for more in (0.5, 0.1, 0.0, 0.3)
    ]
    history = xr.concat([high, *others], "copy")
    names = ("config", "walker_steps", "wall_seconds", "devices", "versions", "seed", "git_commit")
    provenance = dict.fromkeys(names, 1)
    provenance["adamw"] = dict(provenance)
    found = figure1.judged(ridge(), history, provenance)
    assert found["lowest_A"][0] == pytest.approx(0.95 - 0.65 / 32, abs=0.03)
    assert found["barrier"]["verdict"] == "NONE"
    assert found["canonical_barrier"]["verdict"] == "NONE"
    lost = figure1.barrier(ridge(), -7.9, 0.3, 0.9)._replace(height=np.nan, verdict="UNDECIDED")
    assert figure1._canonical(ridge(), 5, lost)["verdict"] == "UNDECIDED"
    assert found["transition"]["verdict"] == "CONTINUOUS"
    lowest = found["advantage"][0]
    assert lowest["A"][0] == pytest.approx(0.95 - 0.65 / 32 - 0.5, abs=0.03)
    assert lowest["training_A"] == 0.5  # the higher of the two in the middle
    assert (lowest["range"], lowest["seeds"]) == ([0.2, 0.7], [4, 5])
    odd = figure1.advantages(ridge(), history.isel(copy=[1, 2, 3]))[0]
    assert (odd["training_A"], odd["seeds"]) == (0.3, [3, 3])
    assert found["largest"] == lowest  # the ridge rises to the end
    told = figure1.line("one", found)[7]
    assert told.endswith("where AdamW has 0.50 (0.20 to 0.70, 4 of 5 seeds)")
    bound = found["largest"] | {"nats": [None, 1.0], "nats_at_least": 5.0}
    assert "at least 5 ± 1 nats" in figure1.line("one", found | {"largest": bound})[7]
    half = figure1.advantages(ridge(), history.isel(copy=[0, 0, 1, 3]))[0]
    assert half["seeds"] == [2, 4]
    assert not figure1.advantages(ridge(), history.isel(copy=[0, 0, 1]))
    assert figure1.line("one", found | {"largest": None})[7] == ""
    with jax.numpy_dtype_promotion("standard"):
        case = {"one": (ridge(), history, provenance), "two": (ridge(), history, provenance)}
        figure1.show(figure1.Landscapes("quick", out=tmp_path), "figure1", "Two", case)
    _, text = written(tmp_path, "figure1")
    assert text.count("| NO |") == 2  # one kind of starts proves nothing


def test_devices_are_split_before_anything_is_computed(tmp_path, monkeypatch):
    order = []

    def run(where, config, kind="sample", **_):
        order.append(kind)
        if kind == "sample":
            raise Stopped(2, "cool", 0, 0)
        where.mkdir(parents=True)

    monkeypatch.setattr(figure1.startup, "split_cpu", lambda _: order.append("split"))
    monkeypatch.setattr(figure1.startup, "keep_compiled", lambda: None)
    monkeypatch.setattr(figure1.runs, "run", run)
    monkeypatch.setattr(figure1.xr, "load_dataset", lambda *_, **__: None)
    monkeypatch.setattr(figure1.folders, "read_provenance", lambda _: {})
    with pytest.raises(Stopped):
        figure1.main(figure1.Landscapes("quick", out=tmp_path))
    assert order == ["split", "train", "sample"]
    order.clear()
    with pytest.raises(ValueError, match="--window-steps: steps must be at least 1"):
        figure1.main(figure1.Landscapes("quick", out=tmp_path, window_steps=0))
    assert not order


@pytest.mark.parametrize("scale", ["quick", "cpu", "paper"])
def test_landscapes_of_every_scale_have_a_config(scale):
    for operation in figure1.RATES:
        config = figure1.config_of(scale, operation)
        assert configs.build_system(config).hard == "test_accuracy"
    for width in figure2.WIDTHS[scale]:
        config = figure2.sphere(scale, width)
        assert config.domain.radius == config.training.norm
        # All widths are held at one norm, as in the paper.
        assert config.domain.radius == {"quick": 8.91, "cpu": 18, "paper": 30}[scale]


def test_a_width_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no width 7 at scale cpu; choose from 12, 16, 24"):
        figure2.main(figure2.Choice("cpu", out=tmp_path, widths=(16, 7)))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # a whole run of umbrella windows, for each of two tasks
def test_figure1_runs_and_goes_on_for_more_steps_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(figure1, "RATES", {"x+y": 3e-3, "x^2+y": 5e-3})

    def cases(**how) -> dict:
        figure1.main(figure1.Landscapes("quick", out=tmp_path, **how))
        return written(tmp_path, "figure1")[0]["cases"]

    found = cases()
    assert list(found) == ["x+y", "x^2+y"]
    assert cases() == found
    more = cases(window_steps=200)
    for name, case in more.items():
        assert case["config"]["umbrella"]["steps"] == 200
        assert case["walker_steps"] > found[name]["walker_steps"]
    assert cases() == more  # of what it has, and not of the scale's
    with pytest.raises(ValueError, match="give at least 210"):
        cases(window_steps=100)


@pytest.mark.slow  # a whole run of umbrella windows on a sphere
def test_figure2_runs_and_is_not_run_again(tmp_path):
    options = figure2.Choice("quick", out=tmp_path, widths=(8,))
    figure2.main(options)
    found, text = written(tmp_path, "figure2")
    assert len(found["cases"]) == 1
    assert "norm" in text
    figure2.main(options)
    assert written(tmp_path, "figure2")[0]["cases"] == found["cases"]
