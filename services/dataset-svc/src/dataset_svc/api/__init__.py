"""HTTP routes of dataset-svc."""

from fastapi import APIRouter

from dataset_svc.api import analysis, datasets, deletion, ingests, snapshots, uploads

router = APIRouter(prefix="/v1")
router.include_router(datasets.router)
router.include_router(uploads.router)
router.include_router(ingests.router)
router.include_router(snapshots.router)
router.include_router(analysis.router)
router.include_router(deletion.router)
