"""How long the console's pages take where there is much to show, and whether lists stay fluid.

    python bench/console.py                      # 10,000 evaluations, a run of 20,000 samples; 5 rounds
    python bench/console.py --evaluations 10000 --samples 2000 --rounds 2

Real: the whole platform as `assay up` starts it, with the embedded store; a run of 20,000 samples, two small
ones and one of a group of 57 tasks, carried out against a scripted endpoint, and a comparison; headless
Chromium. Ten thousand real runs would take hours, so all others are copies: documents of a small run and
(every tenth) of the group's run are written into the stores of eval-svc and metrics-svc by the store's own
client, with ids, names, times (one every 12 minutes) and artifacts of their own; the comparisons likewise.

`API` is the time of all calls that a page makes, made directly through the gateway in the same order, those
of one stage at once; `page` is that of the whole HTML, `difference` what the console adds. Answers of both
are taken in turns. In the browser, times are since the navigation began, with warm files. `page k / first` is
the median of the later pages over that of the first two. All processes share this machine.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pages.answers import Answers, Timed
from pages.browser import Looked, Looker, looker
from pages.cases import PageCase, cases
from pages.population import Population, Sizes, population
from scripted.tables import machine, spread

BAR_MS = 300
LONG_TASK_MS = 200
_PAGES = 20


@dataclass(slots=True)
class Measured:
    """All answers for one kind of page."""

    api: list[Timed] = field(default_factory=list)
    page: list[Timed] = field(default_factory=list)
    looks: list[Looked] = field(default_factory=list)

    @property
    def difference(self) -> float:
        """Milliseconds that the console adds, by the medians."""
        api, page = (statistics.median(one.milliseconds for one in taken) for taken in (self.api, self.page))
        return page - api


def main() -> None:
    """Parse the command line, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--datasets", type=int, default=500)
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.evaluations < 10_000 or options.samples < 2000:
        parser.error("--evaluations: the 100th page is taken of 10000; --samples: 2000 make more than twenty")
    sizes = Sizes(options.evaluations, options.samples, options.datasets, options.comparisons)
    with (
        tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch,
        population(Path(scratch), sizes) as made,
    ):
        measure(made, rounds=options.rounds)


def measure(made: Population, *, rounds: int) -> None:
    """Measure all pages and print what they took."""
    answers = Answers(made.url, api_key=made.api_key)
    wanted = list(cases(made, answers))
    measured: dict[str, Measured] = {case.title: Measured() for case in wanted}
    asyncio.run(take_answers(answers, wanted, measured, rounds=rounds))
    with looker(made.url, api_key=made.api_key) as browser:
        for number in range(rounds + 1):
            for case in wanted:
                looked = browser.look(case.page)
                if number:  # the first look fetches the files
                    measured[case.title].looks.append(looked)
        print_pages(measured, rounds=rounds)
        print_paging(page_through(browser, made))


async def take_answers(
    answers: Answers, wanted: Sequence[PageCase], measured: Mapping[str, Measured], *, rounds: int
) -> None:
    """The API's and the console's answers in turns, after one round that warms everything."""
    async with httpx.AsyncClient() as http:
        for number in range(rounds + 1):
            for case in wanted:
                api = await answers.of_api(http, case.calls)
                page = await answers.of_console(http, case.page)
                if number:
                    measured[case.title].api.append(api)
                    measured[case.title].page.append(page)


def page_through(browser: Looker, made: Population) -> dict[str, list[Looked]]:
    """Twenty pages of each long list, by its link to the next page."""
    lists = {
        "evaluations": "/evaluations",
        "evaluations, groups alone": f"/evaluations?dataset_id={made.group.plan.dataset['id']}",
        "samples": f"/evaluations/{made.large.id}?tab=samples",
        "comparisons": "/comparisons",
    }
    return {title: browser.pages(path, count=_PAGES) for title, path in lists.items()}


def print_pages(measured: Mapping[str, Measured], *, rounds: int) -> None:
    """One line for each kind of page."""
    print(f"\n{machine()}, median (least to most) of {rounds} rounds, ms\n")
    print(
        "| page | API | API kB | page | page kB | difference | DOMContentLoaded | first paint | elements "
        "| longest task |"
    )
    print("|" + "---|" * 10)
    for title, taken in measured.items():
        cells = [
            spread([one.milliseconds for one in taken.api], 0),
            f"{taken.api[0].kilobytes:.0f}",
            spread([one.milliseconds for one in taken.page], 0),
            f"{taken.page[0].kilobytes:.0f}",
            f"{taken.difference:.0f}",
            spread([one.loaded for one in taken.looks], 0),
            spread([one.paint for one in taken.looks], 0),
            f"{taken.looks[0].nodes}",
            f"{max(one.longest for one in taken.looks):.0f}",
        ]
        print(f"| {title} | {' | '.join(cells)} |")
    most = max(measured, key=lambda title: measured[title].difference)
    print(f"\nThe console adds {measured[most].difference:.0f} ms at most ({most}); the bar is {BAR_MS}.")


def print_paging(lists: Mapping[str, Sequence[Looked]]) -> None:
    """One line for each list that was paged through."""
    print("\n| list | pages | DOMContentLoaded | page k / first | first paint | longest task |")
    print("|" + "---|" * 6)
    for title, looks in lists.items():
        loaded = [one.loaded for one in looks]
        ratio = statistics.median(loaded[2:]) / statistics.median(loaded[:2])
        paint = spread([one.paint for one in looks], 0)
        longest = max(one.longest for one in looks)
        print(f"| {title} | {len(looks)} | {spread(loaded, 0)} | {ratio:.2f} | {paint} | {longest:.0f} |")
    print(f"\nBars: no task longer than {LONG_TASK_MS} ms, and page k costs what the first one does.")


if __name__ == "__main__":
    main()
