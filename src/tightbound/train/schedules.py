"""From settings to what they set: learning-rate and KL-weight schedules, objective and optimiser."""

import jax
import jax.numpy as jnp
import optax

from tightbound.train.objective import Objective, Schedule, always_one
from tightbound.train.settings import ObjectiveSettings, OptimiserSettings


def learning_rate_schedule(settings: OptimiserSettings, steps: int) -> optax.Schedule:
    """Linear warm-up, then the decay, over `steps` or over each `restart_every` of them."""
    length = settings.restart_every or steps
    rate, warmup = settings.learning_rate, settings.warmup_steps
    decay_steps = max(length - warmup, 1)
    match settings.decay:
        case "constant":
            falling = optax.constant_schedule(rate)
        case "cosine":
            falling = optax.cosine_decay_schedule(rate, decay_steps, settings.final_fraction)
        case "linear":
            falling = optax.linear_schedule(rate, rate * settings.final_fraction, decay_steps)
    if warmup > 0:
        rising = optax.linear_schedule(0.0, rate, warmup)
        falling = optax.join_schedules([rising, falling], [warmup])
    if settings.restart_every is None:
        return falling
    return lambda step: falling(jnp.asarray(step) % length)


def kl_weight_schedule(settings: ObjectiveSettings) -> Schedule:
    """The weight of the KL at a step: constant, linear warm-up (Bowman et al. 2016,
    arXiv:1511.06349, sec. 3.1), or warm-ups in cycles (Fu et al. 2019, arXiv:1903.10145, eq. 6)."""
    final, warmup, cycle = settings.kl_weight, settings.kl_warmup_steps, settings.kl_cycle_steps
    if cycle is not None and not 0 < warmup <= cycle:
        raise ValueError(
            f"`kl_cycle_steps` is {cycle} and `kl_warmup_steps` {warmup}, but a cycle starts the "
            "warm-up over and must have room for it. Give the warm-up 1 step or more, the cycle at "
            "least as many."
        )
    if final == 1.0 and warmup == 0:
        return always_one

    def weight(step):
        if cycle is not None:
            step = step % cycle
        rising = jnp.minimum((step + 1) / warmup, 1.0) if warmup > 0 else jnp.ones(())
        return final * rising

    return weight


def objective(settings: ObjectiveSettings) -> Objective:
    """The named estimator, with its annealing."""
    return Objective(
        estimator=settings.estimator,
        num_samples=settings.num_samples,
        path=settings.path,
        alpha=settings.alpha,
        kl_weight=kl_weight_schedule(settings),
        free_bits=settings.free_bits,
    )


def optimiser(settings: OptimiserSettings, steps: int) -> optax.GradientTransformation:
    """Clipping (entries first, then the norm), then the named rule with its schedule."""
    rate = learning_rate_schedule(settings, steps)
    match settings.name:
        case "adam":
            rule = optax.adam(rate)
        case "adamw":
            rule = optax.adamw(rate, weight_decay=settings.weight_decay)
        case "adagrad":
            rule = optax.adagrad(rate)
        case "rmsprop":
            rule = _rmsprop(settings, rate)
        case "sgd":
            rule = optax.sgd(rate)
    clips = []
    if settings.forget_every != 1:
        clips.append(_summed_gradients(settings.forget_every))
    if settings.clip_value is not None:
        clips.append(optax.clip(settings.clip_value))
    if settings.clip_norm is not None:
        clips.append(optax.clip_by_global_norm(settings.clip_norm))
    return optax.chain(*clips, rule) if clips else rule


def _rmsprop(settings: OptimiserSettings, rate: optax.Schedule) -> optax.GradientTransformation:
    """With a stated epsilon it is added outside of the root, as the optimiser of that name in PyTorch does."""
    memory = 0.9 if settings.memory is None else settings.memory
    if settings.epsilon is None:
        return optax.rmsprop(rate, decay=memory)
    return optax.rmsprop(rate, decay=memory, eps=settings.epsilon, eps_in_sqrt=False)


def _summed_gradients(forget_every: int) -> optax.GradientTransformation:
    """Every step is given the sum of the gradients since step 0, `forget_every`, 2 `forget_every`, ..."""
    if forget_every < 1:
        raise ValueError(
            f"`forget_every` is {forget_every}, but it counts steps. Give 1, which forgets every "
            "gradient after its step."
        )

    def init(params):
        return jnp.zeros((), jnp.int32), optax.tree.zeros_like(params)

    def update(updates, state, params=None):
        count, total = state
        kept = jnp.where(count % forget_every == 0, 0.0, 1.0)
        total = jax.tree.map(lambda old, new: (kept * old + new).astype(new.dtype), total, updates)
        return total, (count + 1, total)

    return optax.GradientTransformation(init, update)
