"""HTTP routes of method-svc."""

from fastapi import APIRouter

from method_svc.api import forms, methods, previews, tasks

router = APIRouter(prefix="/v1")
router.include_router(tasks.router)
# Before the methods: /methods/form and /methods/preview are no methods' ids.
router.include_router(forms.router)
router.include_router(previews.router)
router.include_router(methods.router)
