"""Files in GridFS."""

from collections.abc import AsyncIterator
from contextlib import suppress

from gridfs.errors import NoFile
from motor.motor_asyncio import AsyncIOMotorGridFSBucket

from assay_chassis.store.answering import TRANSIENT, answering
from assay_chassis.store.changes import Document


class FileStore:
    """Immutable files under a name, in GridFS. A name is usually the content's digest.

    Raises (all methods): Unavailable when the server does not answer.
    """

    def __init__(self, bucket: AsyncIOMotorGridFSBucket) -> None:
        self._bucket = bucket

    async def put(self, name: str, chunks: AsyncIterator[bytes], *, metadata: Document | None = None) -> None:
        """Store a file unless one of that name exists. An interrupted upload leaves nothing visible."""
        if await self.exists(name):
            return
        with answering():
            upload = self._bucket.open_upload_stream(name, metadata=metadata)
            try:
                async for chunk in chunks:
                    await upload.write(chunk)
            except BaseException:
                with suppress(*TRANSIENT):
                    await upload.abort()
                raise
            await upload.close()

    async def exists(self, name: str) -> bool:
        """Whether a file of that name is complete."""
        return await self._find(name) is not None

    async def size(self, name: str) -> int | None:
        """Bytes, or ``None`` when there is no such file."""
        found = await self._find(name)
        return None if found is None else int(found["length"])

    async def chunks(self, name: str) -> AsyncIterator[bytes]:
        """The content, in pieces.

        Raises:
            FileNotFoundError: no such file.
        """
        found = await self._find(name)
        if found is None:
            raise FileNotFoundError(name)
        with answering():
            stream = await self._bucket.open_download_stream(found["_id"])
            while chunk := await stream.readchunk():
                yield chunk

    async def delete(self, name: str) -> None:
        """Remove the file of that name; nothing happens when there is none.

        A reader that is in the middle of it gets an error.
        """
        while (found := await self._find(name)) is not None:
            with answering(), suppress(NoFile):  # somebody else removes it at the same time
                await self._bucket.delete(found["_id"])

    async def _find(self, name: str) -> Document | None:
        with answering():
            found: list[Document] = await self._bucket.find({"filename": name}).to_list(length=1)
        return found[0] if found else None
