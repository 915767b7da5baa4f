"""MongoDB behind a narrow interface. The only package that knows the driver (docs/adr/0003-mongo-driver.md).

Every document has ``_id`` (string), ``rev`` (counts its changes from 1), ``write_id`` (names the last write)
and, while it has unpublished events, ``outbox`` (entries) and ``outbox_pending`` (true). A change and the
events that tell of it are one write of one document; there are no transactions.

Queries stay inside what both MongoDB and the embedded server answer from an index: by ``_id``, by a unique
key, or by an equality prefix with a bounded range.
"""

from assay_chassis.store.changes import Change, Document, DuplicateKey, Index, OutboxEntry, Page
from assay_chassis.store.database import Store, open_store
from assay_chassis.store.documents import Collection
from assay_chassis.store.files import FileStore
from assay_chassis.store.queries import by_name

__all__ = [
    "Change",
    "Collection",
    "Document",
    "DuplicateKey",
    "FileStore",
    "Index",
    "OutboxEntry",
    "Page",
    "Store",
    "by_name",
    "open_store",
]
