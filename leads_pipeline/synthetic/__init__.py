"""Invented leads whose truth is known: the demo's input, the matcher's training data and the tests' yardstick.

Nothing in here describes a living person: names are drawn from frequency lists, e-mail domains end in the reserved
``.example`` and numbers are drawn at random. Keep out: anything that reads the database or the clock.
"""

from leads_pipeline.synthetic.hard_leads import REPORTING_SEEDS, TUNING_SEEDS, hard_leads
from leads_pipeline.synthetic.leads import SyntheticLead, generate_leads

__all__ = ["REPORTING_SEEDS", "TUNING_SEEDS", "SyntheticLead", "generate_leads", "hard_leads"]
