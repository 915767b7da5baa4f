"""What dataset-svc does."""

from dataclasses import dataclass

from dataset_svc.service.analysis import AnalysisService
from dataset_svc.service.datasets import DatasetService
from dataset_svc.service.deletion import DeletionService
from dataset_svc.service.ingests import IngestService
from dataset_svc.service.snapshots import SnapshotService
from dataset_svc.service.uploads import UploadService


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes ask for, by kind."""

    datasets: DatasetService
    snapshots: SnapshotService
    uploads: UploadService
    analysis: AnalysisService
    deletion: DeletionService
    ingests: IngestService
