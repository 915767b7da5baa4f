"""The client's documents name only fields that the platform sends."""

from typing import Any

import pytest

from assay.models import decisions, evidence
from assay_evidence import decision as judging
from assay_evidence import policy, report


def fields_of(module: Any) -> dict[str, Any]:
    return {
        name: model
        for name, model in vars(module).items()
        if isinstance(model, type) and model.__module__ == module.__name__
    }


PAIRS = [
    pytest.param(mirrored, getattr(source, name), id=name)
    for module, sources in ((evidence, (report,)), (decisions, (policy, judging)))
    for name, mirrored in fields_of(module).items()
    for source in sources
    if hasattr(source, name)
]


def test_every_part_of_a_report_is_mirrored() -> None:
    assert {name for name in fields_of(evidence) if not hasattr(report, name)} == set()


@pytest.mark.parametrize(("mirrored", "original"), PAIRS)
def test_named_fields_are_fields_of_the_platform(mirrored: Any, original: Any) -> None:
    assert set(mirrored.model_fields) <= set(original.model_fields)
