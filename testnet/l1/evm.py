"""Names for py-evm's objects. Its own annotations use a new type for every integer and byte string,
which would have to be spelled at every call; they are opaque here."""

from typing import Any, TypeAlias

Block: TypeAlias = Any
Computation: TypeAlias = Any
Header: TypeAlias = Any
Log: TypeAlias = Any
Receipt: TypeAlias = Any
State: TypeAlias = Any
