"""`tenor explain RUN ["text" …]`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tenor.cli.options import add_json, add_root, print_json
from tenor.errors import RefusedError

if TYPE_CHECKING:
    from tenor.workflows.explain import ExplainedModel


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="show which words decided a prediction, and test a model's explanations",
        epilog="Without a text, the explanations are tested again, and the run's report is rebuilt with them. Exit "
        "status: 3 if explanations of this model are not shown, because they are no better than random words, or could "
        "not be tested.",
    )
    parser.add_argument("reference", metavar="RUN", help="a run (folder, id or latest), a model folder or a hub model")
    parser.add_argument("texts", nargs="*", metavar="text", help="texts to explain")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="labelled rows that the model was not trained on, to test its explanations (default: the run's own)",
    )
    parser.add_argument("--text-column", metavar="NAME", help="text column of --data (default: the run's, or text)")
    parser.add_argument("--label-column", metavar="NAME", help="label column of --data (default: the run's, or label)")
    add_root(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from tenor.workflows.explain import RowsFile, explained_model

    data = None if options.data is None else RowsFile(options.data, options.text_column, options.label_column)
    tested = explained_model(options.reference, data, options.runs, again=not options.texts)
    if options.texts:
        return _texts(options, tested)
    if options.json:
        report = {} if tested.report is None else {"report": str(tested.report)}
        verdict = {"shown": tested.verdict.shown, "why": tested.verdict.why}
        print_json({"file": str(tested.place), **report, **verdict, **tested.record.model_dump(mode="json")})
    else:
        from rich.console import Console

        from tenor.console.explained import show_tested

        show_tested(Console(markup=False), tested)
    return 0


def _texts(options: argparse.Namespace, tested: "ExplainedModel") -> int:
    from tenor.workflows.explain import explain_texts, text_record

    verdict, explained = tested.verdict, explain_texts(tested, options.texts)
    if options.json:
        texts = [text_record(one, verdict.shown) for one in explained]
        head = {"digest": tested.record.digest, "shown": verdict.shown, "why": verdict.why}
        print_json({**head, "explanations": texts})
    else:
        from rich.console import Console

        from tenor.console.explained import show_explained

        for one in explained:
            show_explained(Console(markup=False), one, verdict)
    if not verdict.shown:
        raise RefusedError(f"no explanation is shown: {verdict.why}")
    return 0
