"""The compact vocabulary for transformers: the 256 bytes, chosen tokens of `cl100k_base`, and the end of a text.

Text is cut as `cl100k_base` cuts it (`base_tokenizer.json`); a token that was not chosen becomes its bytes. One table of merges
cannot say that, since the way to a chosen token may lead through others.
"""

import json
import os
import shutil

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizer

END = "<|endoftext|>"


def byte_letters():
    """The letters of GPT-2 by byte: printable bytes are themselves, the others are moved behind Latin-1."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(256, 512))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]


class EthosTokenizer(PreTrainedTokenizer):
    """Tokens are spelled in letters that stand for bytes."""

    vocab_files_names = {"base_file": "base_tokenizer.json", "vocabulary_file": "vocabulary.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, base_file, vocabulary_file, **kwargs):
        self.files = [base_file, vocabulary_file]
        self.base = Tokenizer.from_file(base_file)
        with open(vocabulary_file, encoding="utf-8") as file:
            chosen = json.load(file)["tokens"]
        letters = byte_letters()
        self.byte_of = {letter: byte for byte, letter in enumerate(letters)}
        self.tokens = [*letters, *map(self.base.id_to_token, chosen), END]  # by id
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        super().__init__(**kwargs)

    @property
    def vocab_size(self):
        return len(self.tokens)

    def get_vocab(self):
        return {**self.ids, **self.added_tokens_encoder}

    def _tokenize(self, text, **kwargs):
        pieces = self.base.encode(text, add_special_tokens=False).tokens
        return [part for piece in pieces for part in ([piece] if piece in self.ids else piece)]

    def _convert_token_to_id(self, token):
        return self.ids[token]

    def _convert_id_to_token(self, index):
        return self.tokens[index]

    def convert_tokens_to_string(self, tokens):
        """Text of tokens; a special token is itself."""
        parts = [token.encode() if token == END else bytes(self.byte_of[c] for c in token) for token in tokens]
        return b"".join(parts).decode("utf-8", errors="replace")

    def save_vocabulary(self, save_directory, filename_prefix=None):
        targets = [os.path.join(save_directory, os.path.basename(path)) for path in self.files]
        for source, target in zip(self.files, targets):
            if os.path.abspath(source) != os.path.abspath(target):
                shutil.copyfile(source, target)
        return tuple(targets)
