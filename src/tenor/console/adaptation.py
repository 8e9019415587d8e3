"""What `tenor adapt` prints before its first step and at its end."""

from typing import TYPE_CHECKING

from rich.console import Console

from tenor.console.run import fact_table, show_notes
from tenor.evaluation.formatting import duration
from tenor.runs.adaptation_summary import AdaptationSummary
from tenor.runs.directory import RunDirectory

if TYPE_CHECKING:
    from tenor.workflows.adapt import PreparedAdaptation


def show_adaptation(console: Console, prepared: "PreparedAdaptation", replicas: int) -> None:
    """Print what should be checked before the first step: corpus, blocks, head, device."""
    plan, blocks, settings = prepared.plan, prepared.blocks, prepared.config.adaptation
    show_notes(console, prepared.corpus.notes)
    parallel = f", {replicas} passes in parallel" if replicas > 1 else ""
    facts = {
        "model": prepared.masked.origin,
        "MLM head": prepared.masked.head,
        "corpus": f"{prepared.corpus.origin}: {len(prepared.corpus.rows):,} texts, {int(blocks.sizes.sum()):,} tokens "
        f"in {len(blocks):,} blocks of at most {prepared.max_length}; unigram entropy {prepared.unigram_entropy:.3f} "
        "nats",
        "held out": f"{len(prepared.validation):,} blocks of the validation rows, "
        f"{int(prepared.validation.selected.sum()):,} masked tokens",
        "masking": f"{settings.mask_share:.0%} of the tokens are selected, other ones in each of "
        f"{settings.epochs} epochs",
        "trainable": prepared.parameters.summary().describe_trainable(),
        "device": f"{plan.device}, {plan.threads} threads; {plan.why}; {plan.training_tokens:,} tokens per forward "
        f"pass{parallel}",
        "dropout": f"attention {prepared.masked.attention_dropout:g}",
    }
    console.print(fact_table(facts))


def show_adapted(console: Console, run: RunDirectory, summary: AdaptationSummary, config_name: str) -> None:
    """Print the losses, and how to fine-tune the result."""
    before, after = summary.before, summary.after
    facts = {
        "held-out loss": f"{before.loss:.4f} nats before, {after.loss:.4f} after step {summary.best_step:,} "
        f"(unigram entropy {summary.unigram_entropy:.4f})",
        "perplexity": f"{before.perplexity:,.2f} before, {after.perplexity:,.2f} after; {after.masked_accuracy:.1%} "
        "of the masked tokens are predicted right",
        "speed": f"{summary.tokens_per_second:,.0f} tokens/s, {duration(summary.seconds)} of training",
        "summary": str(run.adaptation),
        "model": str(run.model),
        "fine-tune": f"tenor train {config_name} model.name={run.path}",
    }
    console.print(fact_table(facts))
