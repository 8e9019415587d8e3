"""The laptop speedrun: minutes of training until MiniLM has 90% and 92% accuracy on 2,500 fixed IMDb reviews.

A run for each level, each with its recipe; one line of JSON per run. docs/speedrun.md has the rules.
"""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from speedrun.race import PEAK_SIZE, race
from speedrun.records import RESULT
from speedrun.rules import OFFICIAL, RECIPES, level_name, read_recipe, read_reviews, split_reviews
from tenor.errors import TenorError
from tenor.runs.missing import is_missing


def main() -> int:
    options = _options()
    try:
        results = [_result(level, options) for level in options.level]
    except TenorError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return int(any(is_missing(result["levels"][f"{result['until']:.2f}"]) for result in results))


def _result(level: float, options: argparse.Namespace) -> dict:
    folder = options.folder / level_name(level)
    console = Console(stderr=True, markup=False, highlight=False)
    if (folder / RESULT).exists():
        console.print(f"{folder}: complete; remove it, or choose another --folder, to run it again", soft_wrap=True)
        result = json.loads((folder / RESULT).read_text())
    else:
        console.print(
            f"{folder}: training to {level:.0%}; after an interruption the same command resumes it", soft_wrap=True
        )
        recipe = read_recipe(options.recipe or RECIPES / f"{level_name(level)}.yaml", options.set)
        splits = split_reviews(read_reviews(options.imdb))
        result = race(recipe, splits, folder, level, OFFICIAL, console, PEAK_SIZE)
    print(json.dumps(result), flush=True)
    return result


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m speedrun", description=__doc__)
    parser.add_argument("--imdb", help="IMDb as data.path takes it; default: the embedded reviews, the same ones")
    parser.add_argument("--level", type=float, choices=OFFICIAL.levels, nargs="+", default=list(OFFICIAL.levels))
    parser.add_argument("--recipe", type=Path, help="a configuration; default: benchmarks/speedrun/recipes/LEVEL.yaml")
    parser.add_argument("--folder", type=Path, default=Path("runs/speedrun"), help="with a run folder for each level")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the recipe to try, as dotted.key=value")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
