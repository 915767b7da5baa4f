"""What several routes take."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from assay_harness.spec import Recipe
from method_svc.service import Services

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]
Search = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern="^[^\\x00]+$",
        description="only those with this text in their name, in upper or lower case",
    ),
]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")]


def _plain_recipe(value: object, parse: Callable[[object], Any]) -> Any:
    """Report the faults of a recipe by the field that the caller wrote: ``recipe.stop.0``.

    The union of the recipes would put the template's name in between.
    """
    try:
        return parse(value)
    except ValidationError as error:
        details: list[InitErrorDetails] = []
        for item in error.errors():
            place = item["loc"][1:] or ("template",)
            cause = item.get("ctx", {}).get("error")
            message = (
                f"{cause}; the fields are {{{{input}}}} and the dataset's columns" if cause else item["msg"]
            )
            kind = PydanticCustomError("recipe", "{message}", {"message": message})
            details.append(InitErrorDetails(type=kind, loc=place, input=item["input"]))
        raise ValidationError.from_exception_data("recipe", details) from None


CheckedRecipe = Annotated[Recipe, WrapValidator(_plain_recipe)]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """A response: read from the service's own objects."""

    model_config = ConfigDict(from_attributes=True)


def services_of(request: Request) -> Services:
    """The services that the application's lifespan has opened."""
    services: Services = request.app.state.services
    return services


Opened = Annotated[Services, Depends(services_of)]
