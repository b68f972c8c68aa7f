from .finding import Cause as Cause
from .laws.gather import gather_laws as gather_laws
from .watch import gather as gather
from .watch import verdict as verdict
