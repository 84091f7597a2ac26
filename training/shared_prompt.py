"""The beginning that all rows of a batch have in common, computed once: the system prompt is a third of the tokens trained on.

    share_prompt(model)                          # a causal LM, before or after PEFT has put an adapter into it
    model(**batch, shared_tokens=120)            # as SupervisedCollator counts them: loss and gradients are the same

Attention is causal, so the keys and values of the first tokens are the same in each row. They are computed for one row, with
gradients, and read by all. Dropout is drawn once for them; NEFTune's noise is the first row's. Where activations are
checkpointed transformers keeps no keys and values: then each row is computed whole, as without this.
"""

from __future__ import annotations

import functools
from typing import Any

from transformers import DynamicCache


def share_prompt(model: Any) -> None:
    """Lets `model.forward` take `shared_tokens`: how many tokens all rows begin with; 0 or left out: none."""
    whole = model.forward

    @functools.wraps(whole)
    def forward(input_ids: Any = None, *, shared_tokens: int = 0, logits_to_keep: Any = 0, **options: Any) -> Any:
        checkpointed = model.training and model.is_activation_checkpointing
        if input_ids is None or len(input_ids) < 2 or not shared_tokens or checkpointed:
            return whole(input_ids, logits_to_keep=logits_to_keep, **options)
        embedded = model.get_input_embeddings()(input_ids)  # of all tokens: NEFTune's noise depends on their number
        cache = DynamicCache(config=model.config)
        model.base_model(inputs_embeds=embedded[:1, :shared_tokens], cache=cache, use_cache=True)
        cache.batch_repeat_interleave(len(input_ids))
        options |= {"inputs_embeds": embedded[:, shared_tokens:], "cache": cache, "use_cache": True}
        return whole(logits_to_keep=logits_to_keep[:, shared_tokens:], **options)

    model.forward = forward
