"""The statistics of paired 0/1 scores, simulated and added up exactly, beside simpler rules.

    python bench/paired_statistics.py             # 10,000 simulated comparisons per cell, all tables
    python bench/paired_statistics.py --exact     # only what needs no chance: the worst case over all churns

A simulated comparison draws the four kinds of pairs (right or wrong in the baseline, in the candidate) with a
baseline accuracy p, a churn and a true difference. Verdicts of the exact test are looked up in its region,
which has the test's answer for every outcome; a sample of them is checked against the library's functions.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy import stats
from scripted.tables import machine

from assay_evidence.statistics.paired import interval, margin_test
from assay_evidence.statistics.power import samples_needed
from assay_evidence.statistics.ratio import PairTable, ratio_score
from assay_evidence.statistics.regions import exact_region, probability
from assay_evidence.statistics.sequential import (
    HOPELESS,
    LEAST_ALPHA,
    boundaries,
    chance_at_end,
    nominal_alphas,
    plan_looks,
)
from assay_evidence.statistics.trinomial import score

SIZES = (10, 100, 500, 1319)
LEVELS = (0.1, 0.5, 0.9)
CHURNS = (0.0, 0.02, 0.06, 0.2)
MARGINS = (0.01, 0.02, 0.03, 0.04, 0.05)
ALPHA = 0.05

Counts = NDArray[numpy.int64]
Rule = Callable[[Counts, Counts, int, float, float], NDArray[numpy.bool_]]


class Truth(NamedTuple):
    """What comparisons are drawn from; ``level`` is the baseline's accuracy."""

    n: int
    level: float
    churn: float
    difference: float

    @property
    def gain(self) -> float:
        """Rate of pairs that are right in the candidate only."""
        return (self.churn + self.difference) / 2

    @property
    def loss(self) -> float:
        """Rate of pairs that are right in the baseline only."""
        return (self.churn - self.difference) / 2

    @property
    def feasible(self) -> bool:
        """Whether such rates exist."""
        return 0 <= self.gain <= 1 - self.level and 0 <= self.loss <= self.level


class Draws(NamedTuple):
    """Outcomes of simulated comparisons."""

    both: Counts
    lost: Counts
    gained: Counts


class Regions:
    """Regions of the exact test, made once each."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, float, float], Counts] = {}

    def of(self, n: int, difference: float, alpha: float) -> Counts:
        """Fewest gains by number of flips, for churns up to 20 %."""
        key = (n, round(difference, 9), alpha)
        if key not in self._made:
            self._made[key] = exact_region(n, difference=difference, alpha=alpha, most_flips=most_flips(n))
        return self._made[key]

    def rejects(
        self, gained: Counts, lost: Counts, n: int, difference: float, alpha: float
    ) -> NDArray[numpy.bool_]:
        """Whether each outcome rejects "the difference is at most ``difference``"."""
        return gained >= self.of(n, difference, alpha)[gained + lost]


def most_flips(n: int) -> int:
    """More flips than 20 % churn ever gives."""
    return min(n, int(0.2 * n + 7 * (0.2 * n) ** 0.5 + 7))


def score_rule(gained: Counts, lost: Counts, n: int, difference: float, alpha: float) -> NDArray[numpy.bool_]:
    """Tango's score test."""
    return score(gained, lost, n, difference) >= stats.norm.isf(alpha)


def bonett_price(
    gained: Counts, lost: Counts, n: int, difference: float, alpha: float
) -> NDArray[numpy.bool_]:
    """Bonett and Price (2012): Wald with one pair added to each kind of flip."""
    gain, loss = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    stderr = numpy.sqrt((gain + loss - (gain - loss) ** 2) / (n + 2))
    return gain - loss - stats.norm.isf(alpha) * stderr >= difference


def paired_t(gained: Counts, lost: Counts, n: int, difference: float, alpha: float) -> NDArray[numpy.bool_]:
    """Student's t of the differences; without a flip its interval has no width."""
    mean = (gained - lost) / n
    stderr = numpy.sqrt(((gained + lost) / n - mean**2) / (n - 1))
    return mean - stats.t.isf(alpha, n - 1) * stderr > difference


RULES: dict[str, Rule] = {"score": score_rule, "Bonett-Price": bonett_price, "t": paired_t}


def draw(truth: Truth, runs: int) -> Draws:
    """Simulate comparisons; the seed follows from what is simulated."""
    seed = [truth.n, *(round(1e6 * (1 + value)) for value in truth[1:])]
    rates = [truth.level - truth.loss, truth.loss, truth.gain, 1 - truth.level - truth.gain]
    counts = numpy.random.default_rng(seed).multinomial(truth.n, numpy.maximum(rates, 0.0), size=runs)
    return Draws(counts[:, 0], counts[:, 1], counts[:, 2])


def share(values: NDArray[numpy.bool_] | float) -> str:
    """Percent with two digits."""
    return f"{100 * float(numpy.mean(values)):.2f}"


def row(*cells: object) -> None:
    """One line of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(title: str, *columns: str) -> None:
    """A title and the head of a table."""
    print(f"\n## {title}\n")
    row(*columns)
    row(*["---"] * len(columns))


def by_level(n: int, churn: float, difference: float) -> Iterator[Truth]:
    """The cell at each accuracy, where it exists."""
    for level in LEVELS:
        truth = Truth(n, level, churn, difference)
        if truth.feasible:
            yield truth


def type_one(regions: Regions, runs: int) -> None:
    """How often a candidate that is worse by exactly the margin passes."""
    head(
        "False passes at the margin, alpha 5 %: simulated at each accuracy, and exact",
        *("n", "churn %", "margin", "p 0.1", "p 0.5", "p 0.9", "exact", *RULES),
    )
    for n in SIZES:
        for churn in CHURNS:
            for margin in MARGINS:
                if margin > churn:
                    continue
                cells = {
                    truth.level: share(regions.rejects(drawn.gained, drawn.lost, n, -margin, ALPHA))
                    for truth in by_level(n, churn, -margin)
                    for drawn in [draw(truth, runs)]
                }
                exact = probability(regions.of(n, -margin, ALPHA), n, churn=churn, difference=-margin)
                others = [
                    probability(region_of(rule, n, -margin, ALPHA), n, churn=churn, difference=-margin)
                    for rule in RULES.values()
                ]
                simulated = [cells.get(level, "-") for level in LEVELS]
                row(n, f"{100 * churn:g}", f"{margin:g}", *simulated, share(exact), *map(share, others))


def region_of(rule: Rule, n: int, difference: float, alpha: float) -> Counts:
    """The region of a closed formula."""
    fewest = numpy.empty(most_flips(n) + 1, dtype=numpy.int64)
    for flips in range(len(fewest)):
        gained = numpy.arange(flips + 1)
        rejected = rule(gained, flips - gained, n, difference, alpha)
        fewest[flips] = int(numpy.argmax(rejected)) if rejected.any() else flips + 1
    return fewest


def coverage(regions: Regions, runs: int) -> None:
    """How often the intervals contain the true difference."""
    head(
        "Coverage of the two-sided intervals: least over the accuracies, simulated; and exact",
        *("n", "churn %", "true difference", "90 % simulated", "90 % exact", "95 % simulated", "95 % exact"),
    )
    for n in SIZES:
        for churn in CHURNS:
            for difference in sorted({0.0, -churn / 2, -churn, churn}):
                cells = []
                for alpha in (0.05, 0.025):
                    covered = [
                        1 - float(numpy.mean(missed(regions, draw(truth, runs), n, difference, alpha)))
                        for truth in by_level(n, churn, difference)
                    ]
                    low = probability(regions.of(n, difference, alpha), n, churn=churn, difference=difference)
                    high = probability(
                        regions.of(n, -difference, alpha), n, churn=churn, difference=-difference
                    )
                    cells += [share(min(covered)), share(1 - low - high)]
                row(n, f"{100 * churn:g}", f"{difference:g}", *cells)


def missed(regions: Regions, drawn: Draws, n: int, difference: float, alpha: float) -> NDArray[numpy.bool_]:
    """Whether the interval with ``alpha`` on each side leaves the true difference out."""
    return regions.rejects(drawn.gained, drawn.lost, n, difference, alpha) | regions.rejects(
        drawn.lost, drawn.gained, n, -difference, alpha
    )


def weak_rule(regions: Regions, runs: int) -> None:
    """The rule of thumb that compares the difference with one run's stderr, and ours."""
    head(
        'The weak rule ("within the baseline\'s stderr") calls equivalent, and ours passes, p 0.5',
        *("n", "churn %", "true loss", "weak rule: equivalent", "ours at margin 0.02", "what is right"),
    )
    for n in SIZES:
        for churn in (0.02, 0.06, 0.2):
            for loss in (0.0, 0.02, 0.03, 0.05):
                truth = Truth(n, 0.5, churn, -loss)
                if not truth.feasible:
                    continue
                drawn = draw(truth, runs)
                baseline = (drawn.both + drawn.lost) / n
                stderr = numpy.sqrt(baseline * (1 - baseline) / (n - 1))
                within = numpy.abs(drawn.gained - drawn.lost) / n <= stderr
                ours = regions.rejects(drawn.gained, drawn.lost, n, -0.02, ALPHA)
                right = "pass" if loss < 0.02 else "not to pass"
                row(n, f"{100 * churn:g}", f"{loss:g}", share(within), share(ours), right)


def power(runs: int) -> None:
    """How often a candidate without a loss passes, and the numbers that the planner names."""
    head(
        "Samples needed for 80 % power, alpha 5 %, no true difference, and the power that they have",
        *("churn %", "margin", "usual formula", "its power", "samples needed", "exact power", "simulated"),
    )
    for churn in (0.0, 0.005, 0.02, 0.05, 0.1, 0.2):
        for margin in (0.01, 0.02, 0.03, 0.05):
            n = samples_needed(margin=margin, churn=churn, alpha=ALPHA, power=0.8)
            if n > 2000:
                continue
            usual = max(
                1, int(numpy.ceil((stats.norm.isf(0.05) + stats.norm.isf(0.2)) ** 2 * churn / margin**2))
            )
            drawn = draw(Truth(n, 0.5, churn, 0.0), runs)
            fewest = exact_region(n, difference=-margin, alpha=ALPHA, most_flips=most_flips(n))
            simulated = drawn.gained >= fewest[drawn.gained + drawn.lost]
            its = exact_region(usual, difference=-margin, alpha=ALPHA, most_flips=most_flips(usual))
            powers = (
                share(probability(its, usual, churn=churn, difference=0.0)),
                n,
                share(probability(fewest, n, churn=churn, difference=0.0)),
            )
            row(f"{100 * churn:g}", f"{margin:g}", usual, *powers, share(simulated))


def full_run(regions: Regions) -> None:
    """A lossless candidate on GSM8K's 1,319 rows."""
    head(
        "A lossless candidate passes, n = 1,319, exact",
        "churn %",
        *(f"margin {margin:g}" for margin in MARGINS),
    )
    for churn in CHURNS[1:]:
        passes = (
            probability(regions.of(1319, -margin, ALPHA), 1319, churn=churn, difference=0.0)
            for margin in MARGINS
        )
        row(f"{100 * churn:g}", *map(share, passes))


def sequential(regions: Regions, runs: int) -> None:
    """The whole procedure of five looks."""
    head(
        "Early stop, five looks, margin 0.02, alpha 5 %",
        *(
            "n",
            "churn %",
            "true difference",
            "ever proven",
            "proven before given up",
            "given up",
            "mean samples",
        ),
    )
    for n in (100, 500, 1319):
        for churn in (0.02, 0.06, 0.2):
            for difference in (-0.02, 0.0, -0.04):
                if abs(difference) <= churn:
                    row(
                        n,
                        f"{100 * churn:g}",
                        f"{difference:g}",
                        *looks_of(regions, n, churn, difference, runs=runs),
                    )


def looks_of(
    regions: Regions, planned: int, churn: float, difference: float, *, runs: int, margin: float = 0.02
) -> list[str]:
    """Simulate runs that are looked at five times."""
    random = numpy.random.default_rng([planned, round(1e6 * churn), round(1e6 * (1 + difference))])
    looks = plan_looks(planned, first_share=0.2, count=5)
    levels, last = nominal_alphas(looks, ALPHA), boundaries(looks, ALPHA)[-1]
    gain, loss = (churn + difference) / 2, (churn - difference) / 2
    gained, lost = numpy.zeros(runs, dtype=numpy.int64), numpy.zeros(runs, dtype=numpy.int64)
    ever, proven, given_up = (numpy.zeros(runs, dtype=bool) for _ in range(3))
    used = numpy.full(runs, planned)
    for level, before, n in zip(levels, [0, *looks], looks, strict=False):
        steps = random.multinomial(n - before, [gain, loss, 1 - gain - loss], size=runs)
        gained, lost = gained + steps[:, 0], lost + steps[:, 1]
        running = ~proven & ~given_up
        if level >= LEAST_ALPHA:
            passes = regions.rejects(gained, lost, n, -margin, level)
            ever |= passes
            proven |= passes & running
        if n < planned:
            mean = (gained - lost) / n
            stderr = numpy.sqrt(((gained + lost) / n - mean**2) / (n - 1))
            spread = numpy.where(stderr > 0, stderr, 1.0)
            chance = chance_at_end(mean + margin, spread, margin=margin, time=n / planned, bound=last)
            given_up |= running & ~proven & (stderr > 0) & (chance < HOPELESS)
        used[running & (proven | given_up)] = n
    return [share(ever), share(proven), share(given_up), f"{used.mean():.0f}"]


def relative(runs: int) -> None:
    """A candidate that is worse by exactly the margin, a share of the baseline's score."""
    head("False passes at a relative margin of 5 %, alpha 5 %", "n", "p", "churn beyond the loss %", "passes")
    for n in (100, 500):
        for level in LEVELS:
            for extra in (0.0, 0.06):
                truth = Truth(n, level, extra + 0.05 * level, -0.05 * level)
                if truth.feasible:
                    drawn = draw(truth, runs)
                    kinds, times = numpy.unique(numpy.column_stack(drawn), axis=0, return_counts=True)
                    passes = [passes_relative(n, *map(int, kind)) for kind in kinds]
                    row(n, level, f"{100 * extra:g}", f"{100 * float(times @ passes) / runs:.2f}")


def passes_relative(n: int, both: int, lost: int, gained: int) -> bool:
    """The library's own answer; the score test alone already refuses most."""
    if not ratio_score(PairTable(both, lost, gained, n - both - lost - gained), 0.95) >= stats.norm.isf(
        ALPHA
    ):
        return False
    baseline, candidate = values(n, both, lost, gained)
    found = margin_test(baseline, candidate, margin=0.05, alpha=ALPHA, higher_is_better=True, relative=True)
    return found.non_inferior


def values(
    n: int, both: int, lost: int, gained: int
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """Scores with these counts."""
    baseline, candidate = numpy.zeros(n), numpy.zeros(n)
    baseline[: both + lost] = 1
    candidate[:both] = 1
    candidate[both + lost : both + lost + gained] = 1
    return baseline, candidate


def continuous(runs: int) -> None:
    """Scores between 0 and 1 whose true loss is the margin, in several shapes."""
    head(
        "Scores between 0 and 1, true loss = margin = 0.02, alpha 5 %",
        "shape",
        "n",
        "ours passes",
        "t passes",
    )
    shapes: dict[str, Callable[[numpy.random.Generator, int], NDArray[numpy.float64]]] = {
        "4 % of the pairs lose 0.5, the others hardly change": lambda random, n: numpy.where(
            random.random(n) < 0.04, -0.5, random.uniform(-0.02, 0.02, n)
        ),
        "2 % of the pairs lose 1": lambda random, n: -(random.random(n) < 0.02).astype(float),
        "all pairs change a little": lambda random, n: random.uniform(-0.17, 0.13, n),
    }
    for name, shape in shapes.items():
        for n in (100, 500, 1319):
            random = numpy.random.default_rng([n, len(name)])
            ours = t = 0
            for _ in range(runs // 10):
                changes = shape(random, n)
                baseline = numpy.where(changes < 0, 1.0, 0.0)
                test = margin_test(
                    baseline, baseline + changes, margin=0.02, alpha=ALPHA, higher_is_better=True
                )
                ours += test.non_inferior
                spread = changes.std(ddof=1) / n**0.5
                t += bool(spread) and stats.t.sf((changes.mean() + 0.02) / spread, n - 1) <= ALPHA
            row(name, n, f"{1000 * ours / runs:.1f}", f"{1000 * t / runs:.1f}")


def check(regions: Regions) -> None:
    """Regions give the answers of the functions that users call."""
    random = numpy.random.default_rng(17)
    for _ in range(60):
        n = int(random.choice(SIZES))
        truth = Truth(n, 0.5, float(random.choice(CHURNS[1:])), 0.0)
        drawn = draw(truth, 1)
        outcome = (int(drawn.both[0]), int(drawn.lost[0]), int(drawn.gained[0]))
        baseline, candidate = values(n, *outcome)
        for margin in (0.02, 0.05):
            told = margin_test(
                baseline, candidate, margin=margin, alpha=ALPHA, higher_is_better=True
            ).non_inferior
            ends = interval(baseline, candidate, confidence=0.9)
            looked_up = bool(regions.rejects(drawn.gained, drawn.lost, n, -margin, ALPHA)[0])
            if ends is None or not told == looked_up == (ends[0] > -margin):
                raise AssertionError(f"{outcome} of {n} at {margin}: test {told}, region {looked_up}, {ends}")


def worst(regions: Regions) -> None:
    """Largest error over every churn up to 20 %, of each rule."""
    head(
        "Largest one-sided error over all churns up to 20 %, exact (at which churn %)",
        *("n", "alpha %", "difference", "ours", *RULES),
    )
    for n in (10, 25, 50, 100, 200, 500, 1319):
        for alpha in (0.05, 0.025):
            for difference in (-0.05, -0.02, -0.01, 0.0, 0.02):
                churns = numpy.append(
                    numpy.linspace(max(abs(difference), 1e-4), 0.2, 100), abs(difference) + 1e-3
                )
                found = []
                for fewest in [
                    regions.of(n, difference, alpha),
                    *(region_of(rule, n, difference, alpha) for rule in RULES.values()),
                ]:
                    errors = [probability(fewest, n, churn=float(c), difference=difference) for c in churns]
                    at = int(numpy.argmax(errors))
                    found.append(f"{100 * errors[at]:.2f} ({100 * churns[at]:.1f})")
                row(n, f"{100 * alpha:g}", f"{difference:g}", *found)


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="simulated comparisons per cell")
    parser.add_argument("--exact", action="store_true", help="only the worst case over all churns")
    options = parser.parse_args()
    began = time.monotonic()
    print(machine())
    regions = Regions()
    if options.exact:
        worst(regions)
    else:
        check(regions)
        type_one(regions, options.runs)
        coverage(regions, options.runs)
        weak_rule(regions, options.runs)
        full_run(regions)
        power(options.runs)
        sequential(regions, options.runs)
        relative(options.runs)
        continuous(options.runs)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
