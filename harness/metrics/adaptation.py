"""Compute what adapting gained and lost, from a metric on target and sources before and after."""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics.names import RECORDED

KAPPA = 0.03  # tolerated loss on the source domain, absolute: 3 % (arXiv 2210.03255, section 4)


def as_error(name: str, value: float) -> float:
    """A metric as an error (lower is better): accuracies and F1 become one minus themselves."""
    return 1.0 - value if RECORDED[name].direction == "higher" else value


def forgetting(name: str, base_source: float, source_after: float) -> float:
    """How much of the source metric was lost by adapting: positive is worse, whatever the metric's direction."""
    return as_error(name, source_after) - as_error(name, base_source)


def original_scale(
    name: str, base_sources: Sequence[float], sources_after: Sequence[float], kappa: float = KAPPA
) -> float:
    """OriginalScale of arXiv 2210.03255: `mean_i max(0, kappa - loss_i) / kappa`; 1 where no source got worse."""
    losses = [max(0.0, forgetting(name, base, after)) for base, after in zip(base_sources, sources_after, strict=True)]
    return sum(max(0.0, kappa - loss) / kappa for loss in losses) / len(losses)


def relative_gain(name: str, base_target: float, target_after: float) -> float | None:
    """Error reduced by, as a share of the base model's error (WERR where the metric is the WER); negative if worse.

    The AdaptWERR of arXiv 2210.03255 is this, cut at 0. None when the base makes no error.
    """
    base_error = as_error(name, base_target)
    return (base_error - as_error(name, target_after)) / base_error if base_error > 0 else None


def constrained_score(
    name: str,
    base_target: float,
    target_after: float,
    base_sources: Sequence[float],
    sources_after: Sequence[float],
    kappa: float = KAPPA,
) -> float:
    """Damage-control score of arXiv 2210.03255, one-sided: gain on the target, scaled down by loss on the sources.

    `mean_i max(0, kappa - loss_i) / kappa * max(0, base_error - error) / base_error`; a source that improves is never
    punished (`loss_i` is at least 0). For accuracies the error is one minus the accuracy.

    Returns:
        a share in [0, 1]; 0 when the base makes no error on the target, since nothing can be gained.
    """
    kept = original_scale(name, base_sources, sources_after, kappa)
    base_error, error = as_error(name, base_target), as_error(name, target_after)
    return kept * max(0.0, base_error - error) / base_error if base_error > 0 else 0.0
