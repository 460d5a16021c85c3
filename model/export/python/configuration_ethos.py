"""Configuration of an exported model for transformers."""

from transformers import PretrainedConfig


class EthosConfig(PretrainedConfig):
    """`model` is the model's section: sizes, attention and feed-forward. The other keys say the same to general tools."""

    model_type = "ethos"

    def __init__(self, model=None, **kwargs):
        self.model = model or {}
        for name, key in (("vocab_size", "vocab_size"), ("hidden_size", "d_model"), ("num_hidden_layers", "num_layers")):
            kwargs.setdefault(name, self.model.get(key))
        kwargs.setdefault("num_attention_heads", self.model.get("attention", {}).get("num_heads"))
        # The head reads the embedding where it is tied to it: there is one parameter, and nothing to tie.
        kwargs["tie_word_embeddings"] = False
        super().__init__(**kwargs)
