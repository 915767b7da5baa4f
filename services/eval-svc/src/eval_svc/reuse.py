"""Responses that may be taken again within one run: same artifact, same instance, same request."""

import hashlib
import json
from collections import OrderedDict
from dataclasses import replace

from assay_harness.results import ModelRequest, RequestKind
from assay_serving.types import Instance
from eval_svc.exchanges import Answer

_MOST_KEPT = 100_000


class ResponseMemory:
    """Finished answers of one attempt at a run, by everything that decides them.

    That is the digest of the artifact that the instance has loaded, the instance, the prompt and the
    generation arguments. Sampled responses are never kept. The oldest answers go first where there are very
    many.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, Answer] = OrderedDict()

    def recall(self, request: ModelRequest, *, instance: Instance) -> Answer | None:
        """An earlier answer of that instance to the same request, marked as reused; or ``None``."""
        if not self._kept or not _is_fixed(request):
            return None
        kept = self._kept.get(_key(request, instance))
        return None if kept is None else replace(kept)

    def keep(self, request: ModelRequest, answer: Answer, *, instance: Instance, document_index: int) -> None:
        """Remember an answer to a request of that document, unless another instance gave it."""
        is_known = answer.instance_id == instance.instance_id and instance.provenance.artifact_sha256
        if not is_known or not _is_fixed(request):
            return
        source = {"index": document_index, "request": request.index}
        self._kept.setdefault(_key(request, instance), replace(answer, retries=0, reused_from=source))
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)


def _is_fixed(request: ModelRequest) -> bool:
    """Whether asking the same instance again would be asking for the same answer."""
    arguments = request.generation_kwargs
    is_sampled = bool(arguments.get("temperature")) or bool(arguments.get("do_sample"))
    return request.kind is not RequestKind.GENERATE or not is_sampled


def _key(request: ModelRequest, instance: Instance) -> bytes:
    decisive = (
        instance.provenance.artifact_sha256,
        instance.instance_id,
        request.kind.value,
        request.messages or request.context,
        request.continuation,
        sorted(request.generation_kwargs.items()),
    )
    return hashlib.sha256(json.dumps(decisive).encode()).digest()
