"""The evidence of one decision in one file, and its verification without the platform."""

from assay_evidence.bundle.archive import BundleError
from assay_evidence.bundle.contents import (
    BundleContents,
    BundledRun,
    bundle_chunks,
    digest_of,
    library_versions,
    write_bundle,
)

__all__ = [
    "BundleContents",
    "BundleError",
    "BundledRun",
    "bundle_chunks",
    "digest_of",
    "library_versions",
    "write_bundle",
]
