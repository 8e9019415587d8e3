"""All faults and all controls."""

from faults import (
    controls_in_data,
    controls_in_model,
    controls_in_steps,
    controls_in_trainer,
    controls_in_wrappers,
    controls_with_peft,
    in_data,
    in_model,
    in_peft,
    in_results,
    in_steps,
    in_tokens,
    in_trainer,
)
from faults.control import Control
from faults.fault import Fault

FAULTS: tuple[Fault, ...] = tuple(
    fault
    for module in (in_data, in_tokens, in_model, in_peft, in_steps, in_results, in_trainer)
    for fault in module.FAULTS
)
CONTROLS: tuple[Control, ...] = tuple(
    control
    for module in (
        controls_in_data,
        controls_in_model,
        controls_in_wrappers,
        controls_with_peft,
        controls_in_steps,
        controls_in_trainer,
    )
    for control in module.CONTROLS
)
BY_NAME = {fault.name: fault for fault in FAULTS}
CONTROLS_BY_NAME = {control.name: control for control in CONTROLS}
