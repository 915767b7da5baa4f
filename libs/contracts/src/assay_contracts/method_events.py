"""What method-svc says."""

from typing import ClassVar

from pydantic import Field

from assay_contracts.envelope import Event


class MethodVersionCreated(Event):
    """A method was created (version 1) or edited (a higher version). Versions never change."""

    SUBJECT: ClassVar[str] = "assay.method.version.created.v1"

    method_id: str
    name: str
    version: int = Field(ge=1)
    template: str
    recipe_hash: str = Field(description="sha256 of the canonical JSON of the recipe")

    def aggregate_id(self) -> str:
        """The method."""
        return self.method_id
