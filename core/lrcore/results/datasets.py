"""Make data sets by the schema, and read arrays back."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from xarray.core.indexing import LazilyIndexedArray

from lrcore.results.schema import SCHEMA, VariableSchema


def make_dataset(group: str, values: dict[str, Any], coordinates: Sequence[str] = (), **attrs: Any) -> xr.Dataset:
    """Make a data set by the schema; `coordinates` names those that are not named like a dimension."""
    schema = SCHEMA[group]
    variables = {name: make_variable(schema[name], value) for name, value in values.items()}
    names = [name for name, v in variables.items() if v.dims == (name,) or name in coordinates]
    data = xr.Dataset({k: v for k, v in variables.items() if k not in names}, {k: variables[k] for k in names})
    return data.assign_attrs(attrs)


def make_variable(schema: VariableSchema, value: Any) -> xr.Variable:
    """Return a variable with the type and attributes of the schema."""
    array = value if isinstance(value, LazilyIndexedArray) else np.asarray(value, dtype=np.dtype(schema.dtype))
    return xr.Variable(schema.dims, array, {"long_name": schema.long_name, "units": schema.unit})


def grid_axes(n: int, pixel_size_A: float) -> dict[str, Any]:
    """Return the coordinates z, y, x of voxel centres, Å from the box centre."""
    return dict.fromkeys("zyx", (np.arange(n) - n // 2) * pixel_size_A)


def to_array(variable: xr.DataArray) -> Any:
    """Return the values as a contiguous array in memory."""
    return np.ascontiguousarray(variable.values)
