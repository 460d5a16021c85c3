"""An exported model for transformers; the mathematics is in `ethos_torch.py`."""

import torch.nn.functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from .configuration_ethos import EthosConfig
from .ethos_torch import logits_of, parts


class EthosForCausalLM(PreTrainedModel, GenerationMixin):
    """A language model. It keeps no keys and values: each step of `generate` reads the whole text."""

    config_class = EthosConfig
    _no_split_modules = ["Block"]

    def __init__(self, config):
        super().__init__(config)
        for name, module in parts(config.model).items():
            self.add_module(name, module)
        self.post_init()

    def _init_weights(self, module):
        """Every parameter comes from the file."""

    def get_input_embeddings(self):
        return self.embed

    def set_input_embeddings(self, value):
        self.embed = value

    def get_output_embeddings(self):
        return None

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids=None, attention_mask=None, labels=None, return_dict=True, **kwargs):
        """Logits [batch, tokens, vocabulary] and, with labels, the mean loss in nats of each next token; -100 is no label."""
        logits = logits_of(self, self.config.model, input_ids, attention_mask)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return CausalLMOutput(loss=loss, logits=logits)
