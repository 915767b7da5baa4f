"""What method-svc does: methods, tasks, forms, previews."""

from dataclasses import dataclass

from method_svc.service.catalogue import TaskCatalogue
from method_svc.service.forms import FormService
from method_svc.service.methods import MethodService
from method_svc.service.previews import PreviewService


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes ask for, by kind."""

    methods: MethodService
    tasks: TaskCatalogue
    forms: FormService
    previews: PreviewService
