"""What makes two samples the same item."""

from typing import NamedTuple


class ItemKey(NamedTuple):
    """What pairs a sample with that of another run: document, prompt, expected answer and task.

    The same document may be in two tasks of a group, where it counts for each.
    """

    doc_hash: str
    prompt_hash: str
    target_hash: str
    task: str
