"""`stein_reference.py` is also run by scripts, not a module of a package: it is found by its folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
