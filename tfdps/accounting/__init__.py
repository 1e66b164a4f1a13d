"""What may be done to the private data, what was done, and what it costs."""

import typing

from tfdps import _face

if typing.TYPE_CHECKING:
    from tfdps.accounting.accountants import epsilon as epsilon
    from tfdps.accounting.accountants import epsilon_of as epsilon_of
    from tfdps.accounting.accountants import noise_multiplier as noise_multiplier
    from tfdps.accounting.accountants import steps as steps
    from tfdps.accounting.events import NoiseEvent as NoiseEvent
    from tfdps.accounting.ledger import Ledger as Ledger
    from tfdps.accounting.ledger import open_ledger as open_ledger
    from tfdps.accounting.plan import PrivacyPlan as PrivacyPlan
    from tfdps.accounting.plan import make_plan as make_plan
else:
    __getattr__, __dir__, __all__ = _face(__name__)
