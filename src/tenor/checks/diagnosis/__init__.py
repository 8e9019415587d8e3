"""Diagnosis of a finished or failed run: read its files and name the causes of a bad result."""

from tenor.checks.diagnosis.diagnose import Cause, Diagnosis, NotChecked, diagnose

__all__ = ["Cause", "Diagnosis", "NotChecked", "diagnose"]
