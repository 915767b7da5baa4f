"""User templates know `{{field}}` and nothing else; column requirements of built-in templates."""

import pickle

import pytest
from pydantic import ValidationError

from assay_harness.errors import FewshotPoolTooSmall, TemplateError, UnknownTask
from assay_harness.spec import JsonlQuestionAnswer, TaskOptions
from assay_harness.template import parse_template


def test_values_are_inserted_as_text_and_never_read_again() -> None:
    template = parse_template('Q {"a": 1}: {{ input }}\n{{Kind of}}A:')
    assert template.names == ["input", "Kind of"]
    template.check(["input", "Kind of"])
    rendered = template.render({"input": "{{7*7}} {{Kind of}}", "Kind of": "x"})
    assert rendered == 'Q {"a": 1}: {{7*7}} {{Kind of}}\nxA:'


@pytest.mark.parametrize(
    ("text", "offending", "line", "column"),
    [
        ("a {% for x in y %}", "{%", 1, 3),
        ("{{a}}\n  {# note #}", "{#", 2, 3),
        ("{{a}} b }}", "}}", 1, 9),
        ("x\n{{a", "{{a", 2, 1),
        ("{{ }}", "{{ }}", 1, 1),
        ("{{a {{b}}", "{{a {{b}}", 1, 1),
        ("no field at all", "no field at all", 1, 1),
    ],
)
def test_anything_else_is_refused_with_its_position(
    text: str, offending: str, line: int, column: int
) -> None:
    with pytest.raises(TemplateError) as caught:
        parse_template(text)
    assert (caught.value.offending, caught.value.line, caught.value.column) == (offending, line, column)


@pytest.mark.parametrize(
    "expression", ["input.__class__", "7*7", "input|upper", "cycler.__init__.__globals__"]
)
def test_an_expression_is_refused_without_knowing_the_fields(expression: str) -> None:
    with pytest.raises(TemplateError, match=r"line 2, column 2.*one field name and nothing else"):
        parse_template(f"go\n {{{{{expression}}}}}")


@pytest.mark.parametrize("name", ["input", "Frage 1", "réponse", "a-b", "x", "meta/topic"])
def test_names_of_columns_are_fields(name: str) -> None:
    template = parse_template(f"{{{{ {name} }}}}")
    assert template.names == [name]
    with pytest.raises(TemplateError, match="the fields are other"):
        template.check(["other"])


def test_a_recipe_refuses_a_bad_template_where_it_is_made() -> None:
    with pytest.raises(ValidationError, match="prompt_template"):
        JsonlQuestionAnswer(input_field="q", expected_output_field="a", prompt_template="{% x %}")


@pytest.mark.parametrize("limit", [0, -1, 0.5, 39.9, True, "10"])
def test_a_limit_is_a_whole_number_of_at_least_one(limit: object) -> None:
    with pytest.raises(ValidationError, match="limit"):
        TaskOptions.model_validate({"limit": limit})


@pytest.mark.parametrize(
    "arguments",
    [{"until": ""}, {"until": [1]}, {"max_gen_toks": 0}, {"max_gen_toks": "8"}, {"temperature": -1}],
)
def test_generation_arguments_have_their_types(arguments: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="generation_kwargs"):
        TaskOptions.model_validate({"generation_kwargs": arguments})


def test_specifications_survive_json() -> None:
    recipe = JsonlQuestionAnswer(input_field="q", expected_output_field="a", stop=("\n", "Q:"))
    assert JsonlQuestionAnswer.model_validate_json(recipe.model_dump_json()) == recipe
    options = TaskOptions(limit=3, column_mapping={"question": "q"}, generation_kwargs={"until": ["x"]})
    assert TaskOptions.model_validate_json(options.model_dump_json()) == options


def test_errors_survive_the_pipe() -> None:
    for error in (
        UnknownTask(task="x", nearest=["y"]),
        TemplateError("bad", template="ab\ncd", offset=4, offending="d"),
        FewshotPoolTooSmall(available=3, needed=5, num_fewshot=4),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))
