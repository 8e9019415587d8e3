"""`tenor runs` lists all runs; `tenor runs --prune N` removes all but the newest N of each configuration."""

import argparse

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import UserError


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("runs", help="list runs, or remove old ones")
    parser.add_argument("--prune", type=int, metavar="N", help="remove all but the newest N runs of each configuration")
    parser.add_argument("--dry-run", action="store_true", help="with --prune: only list what would be removed")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.prune is None:
        return _list(options)
    if options.prune < 0:
        raise UserError(f"--prune {options.prune}: expected 0 or more, the number of runs to keep per configuration")
    from tenor.runs.summary import prune

    pruned = prune(options.runs, options.prune, dry_run=options.dry_run)
    removed = [run.reference for run in pruned.removed]
    still_running = [run.reference for run in pruned.still_running]
    if options.json:
        print_json({"removed": removed, "still_running": still_running})
        return 0
    _print_runs(f"{'would remove' if options.dry_run else 'removed'} {len(removed)} runs", removed)
    if still_running:
        # Explains why these folders still take space.
        _print_runs(f"kept {len(still_running)} that may still be running", still_running)
    return 0


def _print_runs(heading: str, references: list[str]) -> None:
    print(heading, *references, sep="\n  ")


def _list(options: argparse.Namespace) -> int:
    from tenor.console.run_list import all_runs, experiments_table

    rows = all_runs(options.runs)
    if options.json:
        from dataclasses import asdict

        print_json([asdict(row) for row in rows])
        return 0
    from rich.console import Console

    shown = experiments_table(rows) if rows else f"no runs in {options.runs}; start one: tenor train demo"
    Console(markup=False).print(shown)
    return 0
