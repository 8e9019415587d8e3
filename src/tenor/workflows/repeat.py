"""A run once more, from what its manifest records, and whether it ends with the same bits."""

from pathlib import Path

from rich.console import Console

from tenor.data.dataset import LabelledText, SourceData
from tenor.errors import TenorError, UserError
from tenor.runs.directory import DEFAULT_ROOT, RunDirectory, find_run
from tenor.runs.environment import hardware
from tenor.runs.files import read_json
from tenor.runs.manifest import Manifest, read_manifest
from tenor.workflows.inputs import (
    changed_device,
    changed_inputs,
    changed_versions,
    input_fingerprints,
    recorded_config,
    recorded_threads,
)
from tenor.workflows.prepare import prepare
from tenor.workflows.train import RunResult, as_source, start


def repeat(
    reference: str,
    root: Path = DEFAULT_ROOT,
    console: Console | None = None,
    data: LabelledText | SourceData | None = None,
) -> RunResult:
    """Start a new run with the configuration, the threads and the inputs of an earlier one.

    `data` must be given again where it was given to `train`.

    Raises:
        UserError: data, weights, tokenizer, versions or device are not those of the run; all that differ are listed,
            and nothing is written.
        TenorError: the new run is complete, but its weights are not those of the earlier one.
    """
    console = console or Console(stderr=True, markup=False)
    original = find_run(root, reference)
    manifest = read_manifest(original)
    config = recorded_config(original, manifest)
    differing = changed_versions(manifest)
    prepared = prepare(config, as_source(data), recorded_threads(manifest))
    differing += changed_device(manifest, prepared)
    differing += [f"{name}: not the same as then" for name in changed_inputs(manifest, input_fingerprints(prepared))]
    if differing:
        listed = "".join(f"\n  {difference}" for difference in differing)
        raise UserError(
            f"{original.reference} can't be repeated here:{listed}\nRestore these, or train anew with what is here: "
            f"tenor train {original.config}"
        )
    result = start(prepared, root, console)
    if manifest.status == "completed":
        _compare(original, manifest, result)
        console.print(f"the same weights as {original.reference}, to the bit", highlight=False, soft_wrap=True)
    return result


def _compare(original: RunDirectory, manifest: Manifest, result: RunResult) -> None:
    """Raises TenorError where the two runs chose checkpoints with other weights."""
    before = read_json(original.evaluation)["checkpoint"]["digest"]
    if before == result.checkpoint_sha256:
        return
    then, now = manifest.hardware.get("cpu"), hardware()["cpu"]
    if isinstance(manifest.device, str) and manifest.device != "cpu":
        processors = f"kernels on {manifest.device} don't promise the same bits twice"
    else:
        processors = f"it ran on {then}, this is {now}" if then != now else "the processor is the same"
    raise TenorError(
        f"{result.run.reference} is complete, but its weights are not those of {original.reference}: SHA-256 "
        f"{result.checkpoint_sha256[:12]}…, then {before[:12]}… ({processors})"
    )
