"""Fuzz one reader, guided by the coverage of Tenor's code: python run.py TARGET [RUNS] [SEED] [SECONDS]."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tenor"]):
    import targets

    for name in targets.TARGETS:
        if name == sys.argv[1]:
            seeds = list(targets.inputs(name))
            # Whatever is imported on first use is imported, and instrumented, now.
            with tempfile.TemporaryDirectory() as first:
                for seed in seeds:
                    targets.try_input(name, Path(first), seed)


def main(target: str, runs: int = 0, seed: int = 1, seconds: int = 120) -> None:
    """Ends with 0 where every input was read or refused; the first one that was not is written to this folder."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        corpus, folder = Path(place) / "corpus", Path(place) / "folder"
        corpus.mkdir()
        folder.mkdir()
        for number, content in enumerate(seeds):
            (corpus / f"{number:03}").write_bytes(content)
        count = runs or targets.TARGETS[target].runs
        limits = [f"-runs={count}", f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=4096", "-max_len=20000"]
        options = [f"-seed={seed}", "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={Path.cwd()}/"]
        atheris.Setup(
            [sys.argv[0], *limits, *options, str(corpus)], lambda data: targets.try_input(target, folder, data)
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
