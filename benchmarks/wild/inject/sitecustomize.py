"""Python runs this at its start if its folder is on PYTHONPATH: torch-audit in a program that stays as it is."""

import torch_audit_hook

torch_audit_hook.install()
