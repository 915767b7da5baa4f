"""Which columns a task's own Jinja templates cannot do without."""

from collections.abc import Iterator

import lm_eval.utils
from jinja2 import meta, nodes


def required_columns(text: str) -> set[str]:
    """Return the names that rendering a template always reads.

    A text that is one identifier names a column. Names read only inside a branch, or guarded by
    `is defined` or `default`, are not required. Raises jinja2.TemplateSyntaxError.
    """
    if text.isidentifier():
        return {text}
    tree = lm_eval.utils.env.parse(text)
    free = meta.find_undeclared_variables(tree) - set(lm_eval.utils.env.globals)
    return free & set(_unconditional(tree))


def _unconditional(node: nodes.Node) -> Iterator[str]:
    """Yield the names below a node that do not depend on a condition."""
    match node:
        case nodes.Name(name=name):
            yield name
        case nodes.Test(name="defined" | "undefined") | nodes.Filter(name="default" | "d"):
            return
        case nodes.CondExpr(test=test) | nodes.If(test=test):
            yield from _unconditional(test)
        case _:
            for child in node.iter_child_nodes():
                yield from _unconditional(child)
