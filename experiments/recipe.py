"""A constructor that is named now and imported when it is needed."""

import dataclasses
import pkgutil
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A constructor named by its import path, so that listing names does not import JAX.

    Attributes:
        constructor: ``"module:function"``.
        arguments: keyword arguments it always gets.
    """

    constructor: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, *leading: Any, **more: Any) -> Any:
        """Imports the constructor and calls it; an optimizer's learning rate comes first."""
        return self.named()(*leading, **self.arguments, **more)

    def named(self) -> Any:
        """Imports what is named and returns it as it is."""
        return pkgutil.resolve_name(self.constructor)
