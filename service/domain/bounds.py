"""Bounds and formats for spec fields, with messages that say what was received and what is allowed."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from service.domain.wording import shown

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What models, aliases and tags may be called."""


class Frozen(BaseModel):
    """A value that validates itself strictly, refuses unknown fields and never changes."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Between:
    """A closed interval for a number; with ``above`` or ``below`` that end is left out."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def check(self, value: Any) -> Any:
        """Return the value, or say what it must be."""
        if value is None:
            return value
        low_holds = value > self.low if self.above else value >= self.low
        high_holds = value < self.high if self.below else value <= self.high
        if low_holds and high_holds:
            return value
        raise PydanticCustomError(
            "out_of_bounds", "must be {allowed}; got {value}", {"allowed": str(self), "value": shown(value)}
        )

    def __str__(self) -> str:
        if not self.above and not self.below:
            return f"between {self.low:g} and {self.high:.10g}"
        low = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        high = f"below {self.high:.10g}" if self.below else f"at most {self.high:.10g}"
        return f"{low} and {high}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        for number in json_schema.get("anyOf", [json_schema]):
            if number.get("type") != "null":
                number["exclusiveMinimum" if self.above else "minimum"] = self.low
                number["exclusiveMaximum" if self.below else "maximum"] = self.high
        return json_schema


@dataclass(frozen=True, slots=True)
class NameFormat:
    """A name for a model, an alias or a tag."""

    def check(self, value: Any) -> Any:
        """Return the value, or say what it must look like."""
        if value is None or re.fullmatch(NAME_PATTERN.strip("^$"), value):
            return value
        allowed = "1 to 100 letters, digits, dots, hyphens and underscores, starting with a letter or digit"
        raise PydanticCustomError(
            "bad_name", "must be {allowed}; got {value}", {"allowed": allowed, "value": shown(value)}
        )

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        for text in json_schema.get("anyOf", [json_schema]):
            if text.get("type") == "string":
                text["pattern"] = NAME_PATTERN
        return json_schema


Name = Annotated[str, NameFormat()]


JsonArray = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
"""Lets a JSON array through where a frozen value holds a tuple."""


class _CountsItems:
    """Describes the bounds that stand before it as an array's, which behind ``JsonArray`` read as those of a text."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler(schema)
        for of_a_text, of_an_array in (("minLength", "minItems"), ("maxLength", "maxItems")):
            if of_a_text in json_schema:
                json_schema[of_an_array] = json_schema.pop(of_a_text)
        return json_schema


CountsItems = _CountsItems()
