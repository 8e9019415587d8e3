"""Hugging Face Accelerate, set up for one process: autocast, the gradient scaler of fp16, gradient clipping."""

from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from tenor.errors import UserError
from tenor.model.device import DevicePlan


def make_accelerator(plan: DevicePlan) -> Accelerator:
    """An accelerator with the plan's device and precision.

    Raises:
        UserError: started by a distributed launcher, or Accelerate's environment variables choose another device.
    """
    precision = "no" if plan.precision == "fp32" else plan.precision
    # Accelerate keeps one state per process, and an earlier run in it may have set another precision or device.
    current_precision = AcceleratorState().mixed_precision if AcceleratorState._shared_state else precision
    current_device = PartialState().device.type if PartialState._shared_state else plan.device
    if (current_precision, current_device) != (precision, plan.device):
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=plan.device == "cpu", mixed_precision=precision)
    if accelerator.num_processes > 1:
        raise UserError("tenor train runs in one process; start it without a distributed launcher")
    if accelerator.device.type != plan.device:  # For example because ACCELERATE_USE_CPU is set.
        raise UserError(
            f"Accelerate would train on {accelerator.device}, expected {plan.device}: remove the ACCELERATE_… "
            "variables from the environment, and choose the device with training.device"
        )
    return accelerator
