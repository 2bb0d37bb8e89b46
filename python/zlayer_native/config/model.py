"""The base of every model: frozen, strict about keys, and failing with this project's error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from zlayer_native.config.origins import Path
from zlayer_native.config.problems import PROBLEMS_MAX

#: The type of errors that carry `problem`, `expected` and perhaps `sibling` in their context.
ERROR_TYPE = "zlayer"


class Model(BaseModel):
    """A frozen value: equal by its fields, hashable, picklable.

    Raises:
        ConfigError: at construction, with a line for each problem.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    if not TYPE_CHECKING:  # Type checkers see the signature that pydantic makes from the fields.

        def __init__(self, **data: Any) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                from zlayer_native.config.explain import as_config_error

                raise as_config_error(error, type(self), data) from None

        # Says to pydantic that nested models need not come through here: an error keeps its path.
        __init__.__pydantic_base_init__ = True


def wrong(problem: str, expected: str, *, sibling: str = "") -> PydanticCustomError:
    """The error that a validator raises for its own field.

    Args:
        problem: what is wrong, with the offending value where that helps.
        expected: what would be right.
        sibling: the other key of a contradiction, in the same block.
    """
    context = {"problem": problem, "expected": expected, "sibling": sibling}
    return PydanticCustomError(ERROR_TYPE, "{problem} (expected {expected})", context)


def many_wrong(errors: Iterable[tuple[Path, PydanticCustomError]]) -> ValidationError:
    """The error that a validator raises for several things below its field."""
    details = [InitErrorDetails(type=error, loc=path, input=None) for path, error in errors]
    return ValidationError.from_exception_data("config", details)


def errors_of(error: ValidationError) -> list[tuple[Path, PydanticCustomError]]:
    """The errors inside, in the form that `many_wrong` takes: to add others to them.

    No more than just too many for one report: a hostile list may hold tens of thousands.
    """
    found: list[tuple[Path, PydanticCustomError]] = []
    for detail in error.errors(include_url=False, include_input=False)[: PROBLEMS_MAX + 1]:
        context = {**detail.get("ctx", {}), "native": detail["type"], "message": detail["msg"]}
        if detail["type"] != ERROR_TYPE:
            found.append((detail["loc"], PydanticCustomError("native", "{message}", context)))
        else:
            again = PydanticCustomError(ERROR_TYPE, "{problem} (expected {expected})", context)
            found.append((detail["loc"], again))
    return found
