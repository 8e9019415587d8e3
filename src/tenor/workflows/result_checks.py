"""The rules on results, applied to a model that is evaluated again."""

from tenor.checks.catalogue import RULES
from tenor.checks.evidence import EvaluationEvidence, OverlapEvidence
from tenor.checks.finding import Report
from tenor.checks.run import run_rules
from tenor.config.schema import Checks
from tenor.data.dataset import Absent
from tenor.errors import RefusedError
from tenor.evaluation.evaluate import SplitResult
from tenor.workflows.findings import split_claims

KINDS = {EvaluationEvidence, OverlapEvidence}


def check_result(checks: Checks, split: str, result: SplitResult, overlap: OverlapEvidence | Absent) -> Report | Absent:
    """Apply every rule on results to one evaluated split, and to its overlap with the run's own rows."""
    if split == "train":
        return Absent("the rules on results judge rows that the model was not trained on")
    evidence = [EvaluationEvidence({split: split_claims(result)}, len(result.metrics.per_class)), overlap]
    unreadable = {OverlapEvidence: overlap.reason} if isinstance(overlap, Absent) else {}
    rules = [rule for rule in RULES if set(rule.needs) <= KINDS]
    return run_rules(evidence, "evaluation", checks.allow, rules, unreadable=unreadable)


def refuse_errors(report: Report | Absent, checks: Checks) -> None:
    """Raises RefusedError where the report has an error that was not allowed, and the policy is to stop."""
    if isinstance(report, Absent) or not report.errors or checks.policy != "stop":
        return
    code = report.errors[0].code
    found = ", ".join(f"{finding.code} ({finding.title})" for finding in report.errors)
    raise RefusedError(
        f"the result has an error: {found}. Fix the cause, or accept it with a reason: "
        f"'checks.allow.{code}=why this is meant'; `tenor rule {code}` explains"
    )
