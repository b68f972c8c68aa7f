from .filtering import FilteringObjective as FilteringObjective
from .guard import guarded as guarded
from .loop import TrainState as TrainState
