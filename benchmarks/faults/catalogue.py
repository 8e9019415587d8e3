"""All faults and all controls."""

from faults import in_data, in_model, in_results, in_steps, in_tokens, in_trainer
from faults.controls import CONTROLS
from faults.fault import Fault

FAULTS: tuple[Fault, ...] = tuple(
    fault for module in (in_data, in_tokens, in_model, in_steps, in_results, in_trainer) for fault in module.FAULTS
)
BY_NAME = {fault.name: fault for fault in FAULTS}
CONTROLS_BY_NAME = {control.name: control for control in CONTROLS}
