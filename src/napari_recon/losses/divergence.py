"""How far a posterior is from its prior."""

from torch import Tensor


def kl_divergence(mean: Tensor, logvar: Tensor, prior_mean: Tensor, prior_logvar: Tensor) -> Tensor:
    """Kullback-Leibler divergence of independent normal distributions, in nats, for each number; never negative.

    All tensors have one shape. After Kingma and Welling, "Auto-encoding variational Bayes" (ICLR 2014), for any prior.
    """
    ratio = logvar - prior_logvar
    distance = (mean - prior_mean).square() * (-prior_logvar).exp()
    return 0.5 * (ratio.exp() - 1 - ratio + distance)


def with_free_nats(divergence: Tensor, free: float) -> Tensor:
    """Mean over a batch of the divergence of each patch, (N,), the first `free` nats of it at no cost.

    Kingma et al., "Improving variational inference with inverse autoregressive flow" (NeurIPS 2016): a level that
    carries less is not pressed to carry nothing.
    """
    return divergence.clamp_min(free).mean()
