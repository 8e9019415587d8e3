"""After the fact: reads what a run left behind, and names the cause."""

from tenor.checks.diagnosis.diagnose import Cause, Diagnosis, NotChecked, diagnose

__all__ = ["Cause", "Diagnosis", "NotChecked", "diagnose"]
