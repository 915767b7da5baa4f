"""Items are paired by content, against the same in plain Python."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay_evidence import pairing as module
from assay_evidence.pairing import Pairing, pair_runs, paired_values
from assay_evidence.tables import EvidenceWriter, RunEvidence, SampleRow, read_run
from assay_evidence.testing import digest, synthetic_facts


class Item(NamedTuple):
    doc: int
    prompt: int = 0
    target: int = 0
    task: str = "t"


def evidence(directory: Path, items: list[Item], values: list[float] | None = None) -> RunEvidence:
    directory.mkdir(parents=True, exist_ok=True)
    writer = EvidenceWriter(directory)
    writer.add(
        [
            SampleRow(
                index=index,
                task=item.task,
                doc_hash=digest(f"doc {item.doc}"),
                prompt_hash=digest(f"prompt {item.prompt}"),
                target_hash=digest(f"target {item.target}"),
                block=0,
                position=index,
                values={"f1,none": 0.0 if values is None else values[index]},
            )
            for index, item in enumerate(items)
        ]
    )
    files = writer.close()
    facts = synthetic_facts(
        run_id=directory.name,
        task="t",
        quality={},
        higher_is_better={},
        sample_metrics=["t.f1,none"],
        samples=len(items),
    )
    return read_run(facts, files.samples, files.requests)


def plain(first: list[Item], second: list[Item]) -> list[tuple[int, int]]:
    waiting: dict[Item, list[int]] = defaultdict(list)
    for position, item in enumerate(second):
        waiting[item].append(position)
    return [(position, waiting[item].pop(0)) for position, item in enumerate(first) if waiting.get(item)]


def plain_differing(first: list[Item], second: list[Item], pairs: list[tuple[int, int]]) -> tuple[int, int]:
    """Documents left over in both, with another target and with another prompt."""
    left = [item for place, item in enumerate(first) if place not in {pair[0] for pair in pairs}]
    right = [item for place, item in enumerate(second) if place not in {pair[1] for pair in pairs}]
    targets = 0
    for parts in (slice(0, 2), slice(0, 1)):
        keys = [Counter((item[parts], item.task) for item in side) for side in (left, right)]
        if parts.stop == 2:
            targets = (keys[0] & keys[1]).total()
        else:
            documents = (keys[0] & keys[1]).total()
    return targets, documents - targets


ITEMS = st.lists(
    st.builds(Item, st.integers(0, 4), st.integers(0, 1), st.integers(0, 1), st.sampled_from(["t", "u"])),
    max_size=12,
)


def pairs_of(found: Pairing) -> list[tuple[int, int]]:
    return list(zip(found.baseline.tolist(), found.candidate.tolist(), strict=True))


@settings(deadline=None, max_examples=60)
@given(first=ITEMS, second=ITEMS)
def test_as_in_plain_python(
    tmp_path_factory: pytest.TempPathFactory, first: list[Item], second: list[Item]
) -> None:
    directory = tmp_path_factory.mktemp("pairing")
    runs = evidence(directory / "a", first), evidence(directory / "b", second)
    found, pairs = pair_runs(*runs), plain(first, second)
    assert pairs_of(found) == pairs
    assert set(found.baseline_only) == set(range(len(first))) - {pair[0] for pair in pairs}
    assert set(found.candidate_only) == set(range(len(second))) - {pair[1] for pair in pairs}
    assert (found.target_differs, found.prompt_differs) == plain_differing(first, second, pairs)
    assert found.repeated == len(pairs) - len({first[place] for place, _ in pairs})


def test_two_contents_with_one_mixture_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_mixed", lambda words: numpy.zeros(len(words), dtype=numpy.uint64))
    first, second = [Item(0), Item(1), Item(0), Item(3)], [Item(1), Item(0), Item(2), Item(0)]
    found = pair_runs(evidence(tmp_path / "a", first), evidence(tmp_path / "b", second))
    assert pairs_of(found) == plain(first, second) == [(0, 1), (1, 0), (2, 3)]


def test_the_same_question_in_two_tasks_of_a_group_counts_for_each(tmp_path: Path) -> None:
    items = [Item(0, task="t"), Item(0, task="u")]
    found = pair_runs(evidence(tmp_path / "a", items), evidence(tmp_path / "b", items[::-1]))
    assert pairs_of(found) == [(0, 1), (1, 0)]
    assert found.repeated == 0


def test_equal_indices_do_not_make_a_pair(tmp_path: Path) -> None:
    found = pair_runs(
        evidence(tmp_path / "a", [Item(doc) for doc in range(5)]),
        evidence(tmp_path / "b", [Item(doc) for doc in range(10, 15)]),
    )
    assert len(found) == 0
    assert (found.prompt_differs, found.target_differs) == (0, 0)


def test_values_that_are_no_finite_numbers_are_left_out_and_counted(tmp_path: Path) -> None:
    items = [Item(doc) for doc in range(4)]
    runs = (
        evidence(tmp_path / "a", items, [1.0, float("nan"), 0.5, 0.25]),
        evidence(tmp_path / "b", items, [0.0, 1.0, float("inf"), 0.25]),
    )
    found = paired_values(*runs, pair_runs(*runs), metric="t.f1,none")
    assert found is not None
    assert found.at.tolist() == [0, 3]
    assert found.not_finite == 2
    assert found.changed.tolist() == [True, False]
    assert paired_values(*runs, pair_runs(*runs), metric="t.f2,none") is None
