"""`tiny.py` is a recipe file as users write them, not a module of a package: it is found by its folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
