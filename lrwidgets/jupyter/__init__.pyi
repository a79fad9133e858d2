from .fulcrum import FulcrumWidget
from .inspect import InspectWidget
from .mask import MaskWidget
from .prior import PriorWidget
from .run import RunWidget
from .slices import SliceView
from .studio import Studio
from .sweep import SweepWidget

__all__ = [
    "FulcrumWidget",
    "InspectWidget",
    "MaskWidget",
    "PriorWidget",
    "RunWidget",
    "SliceView",
    "Studio",
    "SweepWidget",
]
