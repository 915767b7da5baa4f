"""Queries that several services ask."""

import re

from assay_chassis.store.changes import Document


def by_name(name: str | None, *, search: str | None) -> Document:
    """What ``Collection.page`` asks for documents by the field ``name``.

    Args:
        name: exactly this one; answered from an index that begins with it.
        search: with this text in it, in upper or lower case. No index helps with that: the names of all
            documents that the rest of the query leaves are read. Without NUL, which no pattern may have.
    """
    conditions: Document = {}
    if name is not None:
        conditions["$eq"] = name
    if search is not None:
        conditions |= {"$regex": re.escape(search), "$options": "i"}
    if search is None and name is not None:
        return {"name": name}
    return {"name": conditions} if conditions else {}
