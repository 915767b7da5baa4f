"""From a template and what the API said to a page."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from assay_console import formats
from assay_console.navigation import navigation
from assay_console.roles import May
from assay_console.sign_in import signed_in_of

STATIC = Path(__file__).with_name("static")
PREFIX = "/console"


class Pages:
    """Renders templates; everything that comes from outside is escaped where it is shown."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("assay_console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(formats.FILTERS)
        self._environment.filters["json_attribute"] = _json_attribute
        self._environment.globals.update(static=static_path, navigation=navigation)

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A whole page, or a part of one where the template is a part."""
        return HTMLResponse(self.text(request, template, **values), status_code=status)

    def text(self, request: Request, template: str, **values: Any) -> str:
        """The HTML of a template, with ``path``, ``here``, ``signed_in``, ``may`` and what ``values`` names.

        In templates ``path("dataset", dataset_id=...)`` is the path of a route by its name, with what is no
        part of it as a query; ``here`` is the path that was asked for. ``signed_in`` is who is looking, if
        anybody, and ``may`` what they are offered.
        """
        signed_in = values.pop("signed_in", None) or signed_in_of(request)

        def path(name: str, /, **parameters: Any) -> str:
            return path_of(request, name, **parameters)

        return self._environment.get_template(template).render(
            request=request,
            here=request.url.path,
            path=path,
            signed_in=signed_in,
            may=signed_in.may if signed_in else May(),
            **values,
        )


def pages_of(request: Request) -> Pages:
    """The renderer of this application."""
    pages: Pages = request.app.state.pages
    return pages


def path_of(request: Request, name: str, /, **parameters: Any) -> str:
    """The path of a route by its name; parameters that are no part of the path become the query."""
    in_path: frozenset[str] = request.app.state.path_parameters[name]
    own = {key: value for key, value in parameters.items() if key in in_path}
    query = {key: value for key, value in parameters.items() if key not in own and value not in (None, "")}
    path = str(request.app.url_path_for(name, **own))
    return f"{path}?{urlencode(query, doseq=True)}" if query else path


def is_part(request: Request) -> bool:
    """Whether htmx asks for a part of the page that it has."""
    return request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"


@cache
def static_path(name: str) -> str:
    """The address of a static file, which changes with its content."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"{PREFIX}/static/{name}?v={digest}"


def _json_attribute(value: Mapping[str, Any] | list[Any]) -> Markup:
    """JSON for a quoted HTML attribute; scripts read it from there, since pages hold no scripts."""
    return Markup.escape(json.dumps(value, separators=(",", ":"), allow_nan=False))
