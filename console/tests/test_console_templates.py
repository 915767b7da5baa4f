"""What holds for every template and script: they parse, what they name exists, and nothing is inline."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import nodes
from pydantic import HttpUrl

import assay_console
from assay_console.application import create_app
from assay_console.navigation import NAVIGATION
from assay_console.pages import STATIC, Pages
from assay_console.settings import Settings

PACKAGE = Path(assay_console.__file__).parent
TEMPLATES = PACKAGE / "templates"
NAMES = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html"))
OWN_STATIC = sorted(path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts)
SPRITE = (STATIC / "vendor" / "bootstrap-icons-1.13.2.svg").read_text(encoding="utf-8")
ICONS = frozenset(re.findall(r'<symbol[^>]*\bid="([^"]+)"', SPRITE))
_JINJA = re.compile(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)
_TAG = re.compile(r"<[a-zA-Z][^>]*>", re.DOTALL)
# In quotes, a Jinja expression is the value of an attribute; elsewhere its quotes must not be seen as such.
_VALUE = re.compile(r"=\s*(\"[^\"]*\"|'[^']*')", re.DOTALL)


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _tags(name: str) -> list[str]:
    """The tags of a template, without what Jinja puts into them."""
    return [match.group() for match in _TAG.finditer(_JINJA.sub(" ", _source(name)))]


def _parsed(name: str) -> nodes.Template:
    return Pages()._environment.parse(_source(name), name=name)


def _calls(name: str, function: str) -> Iterator[nodes.Call]:
    """Calls of a function or macro, however it was imported."""
    for call in _parsed(name).find_all(nodes.Call):
        called = call.node
        named = called.name if isinstance(called, nodes.Name) else getattr(called, "attr", None)
        if named == function:
            yield call


def _texts(expression: nodes.Expr) -> Iterator[str]:
    """The texts that an expression may be, as far as they stand in the template."""
    match expression:
        case nodes.Const(value=str() as text):
            yield text
        case nodes.Dict(items=pairs):
            for pair in pairs:
                yield from _texts(pair.value)
        case nodes.CondExpr(expr1=one, expr2=other):
            yield from _texts(one)
            if other is not None:
                yield from _texts(other)
        case nodes.Getitem(node=looked_up) | nodes.Getattr(node=looked_up):
            yield from _texts(looked_up)
        case nodes.Call(node=nodes.Getattr(attr="get", node=looked_up), args=[_, *default]):
            yield from _texts(looked_up)
            for one in default:
                yield from _texts(one)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_parses(name: str) -> None:
    assert Pages()._environment.get_template(name)


@pytest.mark.parametrize("name", NAMES)
def test_its_icons_are_in_the_sprite(name: str) -> None:
    used = {text for call in _calls(name, "icon") for text in _texts(call.args[0])}
    assert used <= ICONS


def test_the_icons_of_the_sidebar_are_in_the_sprite() -> None:
    assert {link.icon for group in NAVIGATION for link in group.links} <= ICONS


@pytest.mark.parametrize("name", NAMES)
def test_its_static_files_are_there(name: str) -> None:
    for call in _calls(name, "static"):
        for text in _texts(call.args[0]):
            assert (STATIC / text).is_file(), text


@pytest.fixture(scope="module")
def path_parameters() -> dict[str, frozenset[str]]:
    """The names in the path of each route, by the route's name."""
    app = create_app(Settings(gateway_url=HttpUrl("http://127.0.0.1:9")))
    found: dict[str, frozenset[str]] = app.state.path_parameters
    return found


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_to_routes(name: str, path_parameters: dict[str, frozenset[str]]) -> None:
    for call in _calls(name, "path"):
        given = {keyword.key for keyword in call.kwargs}
        for route in _texts(call.args[0]):
            assert route in path_parameters, f"line {call.lineno}: there is no route {route}"
            missing = path_parameters[route] - given
            assert not missing or call.dyn_kwargs, f"line {call.lineno}: {route} needs {sorted(missing)}"


def test_links_of_the_sidebar_lead_to_routes(path_parameters: dict[str, frozenset[str]]) -> None:
    assert {link.route for group in NAVIGATION for link in group.links} <= path_parameters.keys()


def test_handlers_name_routes_and_templates_that_are_there(
    path_parameters: dict[str, frozenset[str]],
) -> None:
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for route in re.findall(r'path_of\(\s*request,\s*"(\w+)"', source):
            assert route in path_parameters, f"{path.name}: there is no route {route}"
        for template in re.findall(r'\b(?:page|text)\(\s*request,\s*"([^"]+)"', source):
            assert template in NAMES, f"{path.name}: there is no template {template}"


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_escaped(name: str) -> None:
    tree = _parsed(name)
    assert not [node for node in tree.find_all(nodes.Filter) if node.name in ("safe", "forceescape")]
    assert not list(tree.find_all(nodes.MarkSafe | nodes.ScopedEvalContextModifier))


@pytest.mark.parametrize("name", NAMES)
def test_scripts_and_styles_are_files(name: str) -> None:
    html = _JINJA.sub(" ", _source(name))
    for attributes, body in re.findall(r"<script\b([^>]*)>(.*?)</script>", html, re.DOTALL | re.IGNORECASE):
        assert "src=" in attributes
        assert not body.strip()
    assert "<style" not in html.lower()


@pytest.mark.parametrize("name", NAMES)
def test_tags_have_no_styles_and_no_handlers(name: str) -> None:
    for tag in _tags(name):
        attributes = _VALUE.sub("= ", tag)
        assert not re.search(r"\s(style|on\w+|hx-on\S*|hx-vars)\s*=", attributes, re.IGNORECASE), tag
        assert not re.search(r"(javascript|js):", tag, re.IGNORECASE), tag
    for pair in _parsed(name).find_all(nodes.Pair):
        if isinstance(pair.key, nodes.Const):
            assert not re.fullmatch(r"style|on[a-z]+|hx-on.*|hx-vars", str(pair.key.value)), pair.key.value


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    for tag in _tags(name):
        if re.match(r"<(script|link|img|iframe|object|embed|form)\b", tag, re.IGNORECASE):
            assert not re.search(r"(src|href|action)\s*=\s*[\"']?(https?:)?//", tag), tag


@pytest.mark.parametrize("path", OWN_STATIC, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_our_scripts_and_styles_make_no_html_of_texts(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".js":
        # Parts of pages that the console itself has answered are HTML; nothing else is.
        source = source.replace(".innerHTML = request.responseText;", "")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source
        )
    if path.suffix == ".css":
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import", source)
