"""Compares exported folders with what is expected of them: `python3 check_export.py FOLDER ...`

A folder's `expected.json` has `tokens` (sequences of one length), their `logits` in float64 (of the first ids where there are many),
and `texts` with their `ids`. The network
is compared in float64 and float32; where transformers is installed, the model, the tokenizer, padding and greedy generation
through it too. Prints one JSON object with the largest differences; the exit status is 1 where one is above its tolerance.
"""

import importlib.util
import json
import os
import sys
import tempfile

import torch

TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "transformers": 2e-4, "padded": 2e-4, "again": 0.0}


def plain(folder):
    """The module `ethos_torch.py` of a folder."""
    spec = importlib.util.spec_from_file_location("ethos_torch", os.path.join(folder, "ethos_torch.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def largest(a, b):
    """The largest difference over the largest number, of as many logits as are expected."""
    a = a[..., : b.shape[-1]]
    return ((a.double() - b).abs().max() / b.abs().max()).item()


def greedy(logits_of, tokens, count):
    """The most likely tokens, one after another."""
    for _ in range(count):
        tokens = torch.cat([tokens, logits_of(tokens)[:, -1:].argmax(-1)], dim=1)
    return tokens


def through_transformers(folder, expected, tokens, logits):
    """Differences of the model that transformers loads, and the texts whose ids are others."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    found = model(tokens, labels=tokens)
    loss = torch.nn.functional.cross_entropy(found.logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(found.loss.item() - loss.item()) < 1e-4, "the loss is another"
    # Text that is filled up on the left.
    end = model.config.eos_token_id
    padded = torch.cat([torch.full_like(tokens[:, :2], end), tokens[:, :-2]], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :2] = 0
    after = model(padded, attention_mask=mask).logits[:, 2:]
    prompt = tokens[:1, :4]
    said = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert said.tolist() == greedy(lambda t: model(t).logits, prompt, 6).tolist(), "greedy generation is another"
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    for case in expected["texts"]:
        ids = tokenizer(case["text"], add_special_tokens=False)["input_ids"]
        assert ids == case["ids"], f"{case['text']!r} has the ids {ids}, expected {case['ids']}"
        assert tokenizer.decode(ids) == case["text"], f"{case['text']!r} comes back as {tokenizer.decode(ids)!r}"
    assert tokenizer.eos_token_id == end, "the token that ends a text is another"
    with tempfile.TemporaryDirectory() as again:
        model.save_pretrained(again)
        tokenizer.save_pretrained(again)
        second = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True).eval()
        difference = (second(tokens).logits - found.logits).abs().max().item()
    return {
        "transformers": largest(found.logits.detach(), logits),
        "padded": largest(after.detach(), logits[:, :-2]),
        "again": difference,
    }


def check(folder, with_transformers):
    with open(os.path.join(folder, "expected.json"), encoding="utf-8") as file:
        expected = json.load(file)
    tokens = torch.tensor(expected["tokens"])
    logits = torch.tensor(expected["logits"], dtype=torch.float64)
    model = plain(folder).load(folder)
    with torch.no_grad():
        differences = {"float32": largest(model(tokens), logits), "float64": largest(model.double()(tokens), logits)}
    if with_transformers:
        differences.update(through_transformers(folder, expected, tokens, logits))
    return differences


def main(folders):
    with_transformers = importlib.util.find_spec("transformers") is not None
    torch.set_num_threads(1)  # the models are small, and other tests run at the same time
    result = {os.path.basename(os.path.normpath(folder)): check(folder, with_transformers) for folder in folders}
    versions = {"torch": torch.__version__}
    if with_transformers:
        import transformers

        versions["transformers"] = transformers.__version__
    print(json.dumps({"versions": versions, "differences": result}))
    wrong = [(case, name, d) for case, all_of in result.items() for name, d in all_of.items() if not d <= TOLERANCE[name]]
    for case, name, difference in wrong:
        print(f"{case}: {name} differs by {difference:.3g}, more than {TOLERANCE[name]:.3g}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
