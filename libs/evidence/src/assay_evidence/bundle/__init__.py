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
from assay_evidence.bundle.verification import Problem, Verification, verify_bundle

__all__ = [
    "BundleContents",
    "BundleError",
    "BundledRun",
    "Problem",
    "Verification",
    "bundle_chunks",
    "digest_of",
    "library_versions",
    "verify_bundle",
    "write_bundle",
]
