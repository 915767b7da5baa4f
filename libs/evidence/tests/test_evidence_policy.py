"""What a policy may say, which rule applies, and its digest."""

import pytest
from pydantic import ValidationError

from assay_evidence.policy import DEFAULT_POLICY, Policy, PolicySpec, digest_of, rule_for

RULE = {"metric": "*", "margin": 0.02}


def policy(*quality: dict[str, object], **fields: object) -> PolicySpec:
    return PolicySpec.model_validate({"name": "p", "quality": list(quality) or [RULE], **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quality": []}, "at least 1 item"),
        ({"quality": [RULE | {"role": "supporting"}]}, "no quality rule is critical"),
        ({"quality": [RULE | {"margin": 0.051}]}, r"quality\[0\] \(\*\): margin 0.051 .* 5.1 points"),
        ({"quality": [RULE | {"margin": 0.06, "margin_kind": "relative"}]}, "6 % of the baseline's score"),
        ({"quality": [RULE | {"margin": 1.0}]}, "less than 1"),
        ({"quality": [RULE | {"margin": 0.0}]}, "greater than 0"),
        ({"quality": [RULE | {"margin": float("nan")}]}, "quality.0.margin"),
        ({"quality": [RULE, RULE]}, r"quality\[1\] \(\*\) can never apply"),
        (
            {"quality": [RULE | {"metric": "a.*"}, RULE | {"metric": "a.acc,none"}]},
            r"quality\[1\] \(a.acc,none\) can never apply: quality\[0\]",
        ),
        ({"quality": [RULE | {"margn": 0.1}]}, "quality.0.margn"),
        ({"runtime": [{"metric": "tps"}]}, "has no bound"),
        ({"runtime": [{"metric": "tps", "min_ratio": 1, "min_value": 1}]}, "give exactly one of"),
        ({"runtime": [{"metric": "ttft", "max_ratio": 1}]}, "unknown runtime metric 'ttft'"),
        ({"runtime": [{"metric": "itl99", "max_ratio": 1}]}, "did you mean itlP99 or"),
        ({"runtime": [{"metric": "xyz", "max_ratio": 1}]}, "unknown runtime metric 'xyz'; one of ttftP50"),
        ({"runtime": [{"metric": "coldStart", "max_ratio": 1}]}, "'coldStart' is reported and cannot be"),
        ({"runtime": [{"metric": "tps", "min_ratio": float("inf")}]}, "runtime.0.min_ratio"),
        ({"runtime": [{"metric": "tps", "max_value": float("nan")}]}, "runtime.0.max_value"),
        ({"runtime": [{"metric": "tps", "min_ratio": 1}] * 2}, "min_ratio of tps is given twice"),
        (
            {"runtime": [{"metric": "tps", "max_ratio": 1}, {"metric": "tps", "min_ratio": 1.1}]},
            "contradict each other: min_ratio 1.1 is above max_ratio 1",
        ),
        ({"alpha": 0.0}, "alpha"),
        ({"min_samples": 9}, "min_samples"),
        ({"coverage_floor": 0.4}, "coverage_floor"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PolicySpec.model_validate({"name": "p", "quality": [RULE], **fields})


def test_a_wide_margin_must_be_asked_for() -> None:
    assert policy(RULE | {"margin": 0.2}, allow_wide_margin=True).quality[0].margin == 0.2


def test_the_first_rule_that_names_a_metric_applies() -> None:
    given = policy(
        RULE | {"metric": "gsm8k.*,strict-match", "margin": 0.01},
        RULE | {"metric": "*"},
        RULE | {"metric": "mmlu_law.acc,none", "role": "supporting"},
    )
    strict, own, law = given.quality
    assert rule_for(given, "gsm8k.exact_match,strict-match", task="gsm8k") is strict
    assert rule_for(given, "gsm8k.exact_match,flexible-extract", task="gsm8k") is own
    assert rule_for(given, "mmlu_law.acc,none", task="mmlu") is law
    assert rule_for(given, "mmlu.acc,none", task="mmlu") is own
    assert rule_for(given, "mmlu_art.acc,none", task="mmlu") is None


def test_a_pattern_has_no_other_wildcard_than_the_star() -> None:
    given = policy(RULE | {"metric": "a.[x]?acc,none"})
    assert rule_for(given, "a.xyacc,none", task="a") is None
    assert rule_for(given, "a.[x]?acc,none", task="a") is given.quality[0]


def test_the_digest_is_of_what_the_caller_wrote() -> None:
    stored = Policy(
        **DEFAULT_POLICY.model_dump(), id="pol_1", version=3, digest="", created_at="", created_by=""
    )
    assert digest_of(stored) == digest_of(DEFAULT_POLICY)
    assert digest_of(stored) == digest_of(Policy.model_validate_json(stored.model_dump_json()))
    assert digest_of(policy(RULE | {"margin": 0.01})) != digest_of(policy(RULE))
    assert digest_of(policy(RULE | {"role": "critical"})) == digest_of(policy(RULE))


def test_the_default_policy_judges_every_metric_of_the_task_at_two_points() -> None:
    (rule,) = DEFAULT_POLICY.quality
    assert (rule.metric, rule.role, rule.test, rule.margin) == ("*", "critical", "non_inferiority", 0.02)
    assert DEFAULT_POLICY.runtime == []
