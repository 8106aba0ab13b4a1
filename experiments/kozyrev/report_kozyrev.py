"""README.md of a folder of results: each claim of Kozyrev (2024), and what was measured.

    python experiments/kozyrev/report_kozyrev.py [--out FOLDER]

Reads the JSON files that the other scripts of this folder left; a claim without its file is not
decided.
"""

import numpy as np
from kozyrev import GENERALISED, measured

from glassgrok.claims import AGREES, DIFFERS, OPEN, Claim, Paper, command, there, verdict
from glassgrok.experiment import spread

PICTURES = {
    "claim1_gibbs": "Langevin dynamics and the Gibbs measure",
    "claim2_eyring": "Rates of escape",
    "claim3_volume": "Wide wells win",
    "claim4_walks": "Memorising as t, grokking as √t",
    "claim5_fraction": "Time to generalise against the share that trains",
    "claim6_entropy": "Entropy against the number of examples",
    "claim7_circles": "Circles",
}
SIGMA = 4.0  # standard errors beyond which two numbers differ
BEND = np.log(1.5)  # of the ratio of two slopes, that must be seen for them to be called equal


def _equal(value: float, error: float, wanted: float) -> bool:
    return abs(value - wanted) < SIGMA * error


def _gibbs(found):
    ends = [run["end"] for run in there(found["runs"])]
    told = ", ".join(
        f"{run['dimensions']}-D z = {run['end']['z']:.1f} of {run['end']['effective_samples']:,.0f}"
        f" effective samples, θ {measured(*run['end']['temperature'])} of that asked for"
        for run in found["runs"]
    )
    return told, verdict(all(end["z"] < SIGMA for end in ends))


def _fokker_planck(found):
    z = there([row["z"] for run in found["runs"] for row in run["times"]])
    decay = found["decays"][-1]
    told = (
        f"z of χ² at {len(z)} times {min(z):.1f} to {max(z):.1f}; rate of relaxation over the "
        f"slowest of the grid {measured(*decay['ratio'])}"
    )
    return told, verdict(max(z) < SIGMA and _equal(*decay["ratio"], 1))


def _cold(found):
    end = found["control"]
    c, (value, error) = end["friction"], end["temperature"]
    # Of a harmonic well: (2 - c)²/(4 - 2c - (ω dt)²), with ω² = 8 at the bottom and less above it.
    highest = (2 - c) ** 2 / (4 - 2 * c - 8 * found["dt"] ** 2)
    told = (
        f"θ {measured(value, error)} of that asked for, z = {end['z']:.0f}; {1 - c / 2:g} for "
        f"small dt, {highest:.3f} for a harmonic well at this one"
    )
    inside = 1 - c / 2 - SIGMA * error < value < highest + SIGMA * error
    return told, verdict(inside and end["z"] > SIGMA)


def _height(found):
    high = found["barriers"]
    told = (
        f"slope {measured(*high['slope'])}; exactly {high['slope_exact']:.3f} at these barriers, "
        "-1 where θ -> 0"
    )
    return told, verdict(_equal(*high["slope"], high["slope_exact"]))


def _prefactor(found):
    high = found["barriers"]["prefactor"]
    return f"{measured(*high)} of Kramers', extrapolated to θ = 0", verdict(_equal(*high, 1))


def _friction(found):
    ratio = {r["gamma"]: (r["rate"] / r["turnover"], r["error"] / r["turnover"])
             for r in found["frictions"]}  # fmt: skip
    rates = [row["rate"] for row in found["frictions"]]
    best = found["frictions"][int(np.argmax(rates))]
    told = f"fastest at γ = {best['gamma']:.2g}; rate over Mel'nikov and Meshkov's: " + ", ".join(
        f"{measured(*value)} at γ = {gamma:.2g}" for gamma, value in ratio.items()
    )
    # Theory is the first order in θ/barrier, here 1/5.
    return told, verdict(all(abs(value - 1) < 0.25 for value, _ in ratio.values()))


def _width(found):
    wide = found["widths"]
    told = f"slope {measured(*wide['slope'])} of ln(ratio of rates) against ln(ratio of widths)"
    return told, verdict(_equal(*wide["slope"], wide["slope_exact"]))


def _volume(found):
    told = ", ".join(f"{ratio} times as wide: {measured(*s)}"
                     for ratio, s in found["slopes"].items())  # fmt: skip
    rows = found["volumes"] + found["depths"]
    told = (
        f"slope of ln odds against n ln(ratio) {told}; n up to "
        f"{max(r['dimensions'] for r in rows)}; χ² {found['chi2']:.0f} of {len(rows)}"
    )
    return told, verdict(found["chi2"] < len(rows) + SIGMA * np.sqrt(2 * len(rows)))


def _walks(found, **wanted):
    runs = [run for run in found["runs"] if run["kind"] == "walk"]
    return [run for run in runs if all(run[k] == v for k, v in wanted.items())]


def _exponents(runs, name):
    values = np.array([c[name] for run in runs for c in run["copies"] if c[name] is not None])
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values)), values


def _memorising(found):
    told, still = [], []
    for temperature in sorted({run["temperature"] for run in _walks(found)}):
        runs = _walks(found, temperature=temperature)
        mean, error, values = _exponents(runs, "memorising")
        told.append(f"T = {temperature:g}: {measured(mean, error)}")
        still += list(values) if not temperature else []
    told = f"exponent {', '.join(told)}; the noise takes over as T rises"
    return told, verdict(abs(np.mean(there(still)) - 1) < 0.1)


def _zero_risk(found):
    told = []
    inside = []
    for run in there(_walks(found)):
        mean, error, _ = _exponents([run], "zero_risk")
        noise = np.mean([c["noise"] for c in run["copies"] if "noise" in c])
        told.append(f"T = {run['temperature']:g}, decay {run['weight_decay']:g}: "
                    f"{measured(mean, error)} (noise {noise:.0%})")  # fmt: skip
        inside.append(abs(mean - 0.5) < 0.1)
    told = f"exponent {'; '.join(told)}; so it is without any noise too"
    return told, verdict(all(inside))


def _needs_noise(found):
    still = _walks(found, temperature=0.0)
    steps = [c["generalised"] for run in still if run["weight_decay"] > 0 for c in run["copies"]]
    there = [s for s in steps if s is not None]
    told = f"T = 0 with weight decay generalises after {spread(steps)} steps"
    noisy = [r for r in _walks(found) if r["temperature"] > 0 and r["weight_decay"] > 0]
    for run in noisy:
        told += f"; T = {run['temperature']:g}: {spread([c['generalised'] for c in run['copies']])}"
    if not there and all(c["generalised"] is None for run in noisy for c in run["copies"]):
        return told, OPEN  # with noise there is none either
    return told, verdict(not there)


def _noise_alone(found):
    runs = [run for run in _walks(found, weight_decay=0.0) if run["temperature"] > 0]
    copies = [c for run in runs for c in run["copies"]]
    many = sum(c["generalised"] is not None for c in copies)
    told = (
        f"{many} of {len(copies)} copies reach {GENERALISED:.0%} test accuracy within "
        f"{runs[0]['steps']:,} steps; best "
        + ", ".join(f"{np.mean([c['best_test_accuracy'] for c in run['copies']]):.2f} at T = "
                    f"{run['temperature']:g}" for run in runs)
    )  # fmt: skip
    return told, verdict(many > len(copies) / 2) if many else OPEN


def _square(found):
    slope, error, r = there(found["fits"]["tasks"])
    rates = there(found["fits"]["rates"])
    told = (
        f"b = {measured(slope, error)} over tasks and shares (r = {r:.2f}), "
        f"{measured(*rates[:2])} over learning rates (r = {rates[2]:.2f}); ln t_generalise / "
        f"ln t_memorise = {found['fits']['log_ratio'][0]:.2f} ± {found['fits']['log_ratio'][1]:.2f}"
    )
    if abs(r) < 0.5:
        holds = _equal(*rates[:2], 2)
    else:
        holds = _equal(slope, error, 2) and _equal(*rates[:2], 2)
    return told, verdict(holds)


def _share(found):
    fits = there(found["fits"])
    best = min(fits, key=lambda law: fits[law]["aic"])
    away = {law: fits[law]["aic"] - fits[best]["aic"] for law in fits}
    lowest = min(one["aic_whole"] for one in fits.values())
    told = f"best {best}; ΔAIC " + ", ".join(f"{law} {value:.1f}" for law, value in away.items())
    complete = fits["exponential, e^(-b α)"]["aic_whole"] - lowest
    told += f"; exponential where all generalise: {complete:.1f}"
    exponential = away["exponential, e^(-b α)"]
    if 0 < exponential < 4:
        return told, OPEN
    return told, verdict(exponential == 0)


def _cube(found):
    run = next(r for r in found["runs"] if r["kind"] == "cube")
    told = (
        f"{measured(*run['slope'])} a constraint, ln ε = {run['exact']:.4f}; with coordinates "
        f"drawn anew {run['drawn'][-1]:.1f} after 60, not {60 * run['exact']:.1f}"
    )
    return told, verdict(_equal(*run["slope"], run["exact"]))


def _learnable(found):
    told = "fall of S per example, first third of n over last: " + ", ".join(
        f"{name} {measured(*value)}" for name, value in found["bends"].items()
    )
    ratio, error = found["bends"]["teacher"]
    if abs(np.log(ratio)) > SIGMA * error / ratio:
        return told, DIFFERS
    return told, AGREES if SIGMA * error / ratio < BEND else OPEN


def _fall_is_error(found):
    curve = found["perceptron"]["teacher"]
    fall, wanted = (np.array(curve[name]) for name in ("fall", "predicted"))
    part = slice(2, None)
    ratio = fall[0, part].sum() / wanted[0, part].sum()
    error = np.sqrt(np.sum(fall[1, part] ** 2)) / wanted[0, part].sum()
    told = f"sum of ΔS over sum of -ln(1 - ε), n from 3 on: {measured(ratio, error)}"
    return told, verdict(abs(ratio - 1) < max(0.15, SIGMA * error))


def _small_network(found):
    told, straight = [], []
    for name, one in found["network"].items():
        told.append(f"{name}: {measured(*one['first'])} then {measured(*one['last'])} nats, one "
                    f"line has χ² {one['chi2']:.0f} of {one['freedom']}")  # fmt: skip
        straight.append(one["chi2"] < one["freedom"] + SIGMA * np.sqrt(2 * one["freedom"]))
    if not told:
        raise KeyError("network")
    return "; ".join(told), verdict(all(straight))


def _of_ends(found, name: str):
    values = np.array([[c[w][name] for w in ("memory", "end")] for c in found["copies"]
                       if c["generalised"]])  # fmt: skip
    values = there(values)
    return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values)), values


def _circles(found):
    mean, error, _ = _of_ends(found, "roundness")
    many, _, _ = _of_ends(found, "frequencies")
    told = (
        f"roundness {measured(mean[1], error[1])} at the end ({mean[0]:.2f} where memorised; noise "
        f"{found['modulus'] ** -0.5:.2f}); {many[1]:.1f} frequencies, {many[0]:.1f} where memorised"
    )
    if abs(mean[1] - 0.8) < 2 * error[1]:
        return told, OPEN
    return told, verdict(bool(mean[1] > 0.8 and mean[0] < 0.75 * mean[1]))


def _shift(found):
    mean, error, values = _of_ends(found, "shift")
    chance = max(c["shift_by_chance"][2] for c in found["copies"])
    told = (
        f"{measured(mean[1], error[1])} of x → x + 1 explained at the end, {mean[0]:.2f} where "
        f"memorised; at most {chance:.2f} with residues renamed"
    )
    return told, verdict(
        bool((values[:, 1] > 0.5).all() and chance < 0.2 and mean[0] < mean[1] / 2)
    )


def _before(found):
    pairs = [(c["halved"]["restricted"], c["halved"]["test"]) for c in found["copies"]]
    told = "restricted and test loss halved at " + ", ".join(f"{a} and {b}" for a, b in pairs)
    there = [(a, b) for a, b in pairs if None not in (a, b)]
    if not there:
        return told, OPEN
    return told, verdict(all(a < b for a, b in there))


def _excluded(found):
    mean, error, values = _of_ends(found, "excluded")
    train, _, _ = _of_ends(found, "train")
    told = (
        f"excluded loss {mean[0]:.3f} where memorised, {measured(mean[1], error[1])} at the end; "
        f"train loss {train[0]:.3f}, {train[1]:.3f}"
    )
    rise = values[:, 1] - values[:, 0]
    return told, verdict(rise.mean() > SIGMA * rise.std(ddof=1) / np.sqrt(len(rise)))


CLAIMS = (
    Claim("Langevin dynamics reaches exp(-f/θ)", ("claim1_gibbs",), _gibbs),
    Claim("on the way it follows the Fokker-Planck equation (Eq. 2)", ("claim1_gibbs",),
          _fokker_planck),
    Claim("Eq. 5 of Zhang et al. reaches 1 - c_f/2 of θ instead (our question)",
          ("claim1_gibbs",), _cold),
    Claim("Eq. 3: ln k falls as barrier / θ", ("claim2_eyring",), _height),
    Claim("its prefactor is Kramers'", ("claim2_eyring",), _prefactor),
    Claim("with inertia the rate turns over as theory says, to 25 % (our question)",
          ("claim2_eyring",), _friction),
    Claim("Eq. 3 with entropy: the rate out of a well is inverse to its width",
          ("claim2_eyring",), _width),
    Claim("wide wells win, by their volume", ("claim3_volume",), _volume),
    Claim("memorising: the path goes as t (judged at T = 0)", ("claim4_walks",),
          _memorising),
    Claim("zero risk: the path goes as √t", ("claim4_walks",), _zero_risk),
    Claim("grokking is a random walk, so without noise there is none", ("claim4_walks",),
          _needs_noise),
    Claim("Eq. 1 as it stands, noise without weight decay, groks", ("claim4_walks",), _noise_alone),
    Claim("steps to generalise go as the square of the steps to memorise", ("claim4_walks",),
          _square),
    Claim("they go exponentially with the share that trains", ("claim5_fraction",), _share),
    Claim("the cube: S falls linearly", ("claim6_entropy",), _cube),
    Claim("S of zero risk falls linearly: a perceptron that can learn", ("claim6_entropy",),
          _learnable),
    Claim("an example takes away -ln(1 - ε) (ours: so linear means that nothing is learned)",
          ("claim6_entropy",), _fall_is_error),
    Claim("S of low risk falls linearly: a small network", ("claim6_entropy",), _small_network),
    Claim("after grokking the residues lie on circles (roundness above 0.8)", ("claim7_circles",),
          _circles),
    Claim("adding one is a shift along them", ("claim7_circles",), _shift),
    Claim("Nanda et al.: restricted loss falls before test loss", ("claim7_circles",), _before),
    Claim("Nanda et al.: excluded loss rises", ("claim7_circles",), _excluded),
)  # fmt: skip
PAPER = Paper(
    "kozyrev",
    "report_kozyrev.py",
    "How to explain grokking (Kozyrev 2024), put to the test",
    CLAIMS,
    PICTURES,
)


if __name__ == "__main__":
    command(PAPER, __doc__)
