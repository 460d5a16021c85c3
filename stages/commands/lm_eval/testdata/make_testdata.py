"""Writes the documents of the tests and the numbers that are expected of them.

A model of bytes that is a rule of arithmetic stands for a language model, so that this calculation shares nothing with the program that
it checks but the rule. Everything else is written anew: prompts, tokens, probabilities in float64 (numpy), accuracies, perplexities,
and errors with Python's own random numbers.

    python3 make_testdata.py
"""

import json
import math
import random

import numpy as np

END = 256
ITERATIONS = 2000
NEXT = np.arange(257)


def favourite(tokens):
    """The token that is far likelier than all others."""
    last = tokens[-1]
    return 32 if 97 <= last < 123 and sum(tokens) % 4 == 0 else 97 + last * 7 % 26


def log_probabilities(tokens):
    """Of the token after some, from logits that are exact in float32."""
    total, last = sum(tokens), tokens[-1]
    logits = ((total * 31 + NEXT * 17 + last * NEXT % 13) % 97) / 16 - 3 + 6.5 * (NEXT == favourite(tokens))
    return logits - np.log(np.exp(logits).sum())


draws = random.Random(2025)


def word(length=None):
    return "".join(draws.choice("abcdefghijklmnop") for _ in range(length or draws.randint(2, 7)))


def question(number):
    choices = [draws.choice([word(), word() + " " + word(), "né " + word(3), "“" + word(4) + "”"]) for _ in range(4)]
    labels = ["A", "B", "C", "D"] if number % 3 else ["1", "2", "3", "4"]
    return {
        "id": number,
        "question": f"{word()} {word()} {number}?",
        "choices": {"text": choices, "label": labels},
        "answerKey": draws.choice(labels),
    }


def passage(number):
    while True:
        words = [word() for _ in range(draws.randint(3, 9))]
        if number % 2:
            return {"text": " ".join(words)}
        # Of every other text the last word is the one that the model would write.
        context = " ".join(words)
        tokens = list(context.encode())
        for _ in range(4):
            tokens.append(favourite(tokens))
        tail = bytes(tokens[-4:]).decode()
        if tail[0] == " " and " " not in tail[1:]:
            return {"text": context + tail}


def ending(number):
    return {
        "activity_label": word().capitalize(),
        "ctx_a": f"{word()} [header] {word()} [title] {word()}.",
        "ctx_b": draws.choice(["", "THE " + word(), word() + " A"]),
        "endings": [f" {word()}  [step] {word()}." for _ in range(4)],
        "label": str(draws.randint(0, 3)),
    }


def log_likelihood(context, continuation, most, begin=False):
    """The score of a continuation, and whether it is what the model would write."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, continuation = context[:-spaces], context[-spaces:] + continuation
    given = list(context.encode()) or [END]
    if begin and context:
        given = [END] + given
    targets = list(continuation.encode())
    tokens = (given + targets)[-(most + 1):]
    score, greedy = 0.0, True
    for at in range(len(tokens) - len(targets), len(tokens)):
        row = log_probabilities(tokens[:at])
        score += float(row[tokens[at]])
        greedy = greedy and int(np.argmax(row)) == tokens[at]
    return score, greedy


def mean_with_error(values):
    return [float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))]


def perplexity_with_error(values):
    def statistic(sample):
        return math.exp(-sum(sample) / len(sample))

    found = []
    for chunk in range(ITERATIONS // 1000):
        resampler = random.Random()
        resampler.seed(chunk)
        for _ in range(1000):
            found.append(statistic(resampler.choices(values, k=len(values))))
    return [statistic(values), float(np.std(found, ddof=1))]


def choice_metrics(rows, metrics):
    """rows: (scores, choices, gold)"""
    lengths = {
        "acc": lambda text: 1,
        "acc_norm": lambda text: len(text),
        "acc_bytes": lambda text: len(text.encode()),
    }
    return {
        metric: mean_with_error([
            float(int(np.argmax([s / lengths[metric](c) for s, c in zip(scores, choices)])) == gold)
            for scores, choices, gold in rows
        ])
        for metric in metrics
    }


def prompt(doc):
    return f"Question: {doc['question']}\nAnswer:"


def choice_task(docs, train, shots, most=2048, begin=False):
    examples = random.Random(1234)
    rows = []
    for doc in docs:
        context = "Questions about numbers.\n\n"
        for other in examples.sample(train, shots) if shots else []:
            gold = other["choices"]["label"].index(other["answerKey"])
            context += prompt(other) + " " + other["choices"]["text"][gold] + "\n\n"
        context += prompt(doc)
        choices = doc["choices"]["text"]
        scores = [log_likelihood(context, " " + choice, most, begin)[0] for choice in choices]
        rows.append((scores, choices, doc["choices"]["label"].index(doc["answerKey"])))
    return choice_metrics(rows, ["acc", "acc_norm", "acc_bytes"])


def last_word_task(docs, shots, most=2048):
    # Examples come from the split that is scored, which the task does not say, so no document is drawn to spare.
    examples = random.Random(1234)
    scores = []
    for doc in docs:
        context = ""
        if shots:
            drawn = examples.sample(docs, shots)
            for other in [one for one in drawn if one != doc][:shots]:
                head, _, tail = other["text"].rpartition(" ")
                context += head + " " + " " + tail + "\n\n"
        head, _, tail = doc["text"].rpartition(" ")
        scores.append(log_likelihood(context + head, " " + tail, most))
    return {
        "perplexity": perplexity_with_error([score for score, _ in scores]),
        "acc": mean_with_error([float(greedy) for _, greedy in scores]),
    }


def clean(text):
    text = text.strip().replace(" [title]", ". ")
    while "[" in text and "]" in text[text.index("["):]:
        start = text.index("[")
        text = text[:start] + text[text.index("]", start) + 1:]
    return text.replace("  ", " ")


def ending_task(docs):
    rows = []
    for doc in docs:
        context = clean(doc["activity_label"] + ": " + doc["ctx_a"] + " " + doc["ctx_b"].capitalize())
        choices = [clean(text) for text in doc["endings"]]
        scores = [log_likelihood(context, " " + choice, 2048)[0] for choice in choices]
        rows.append((scores, choices, int(doc["label"])))
    return choice_metrics(rows, ["acc", "acc_norm"])


def lines(name, docs):
    with open(name, "w") as file:
        file.writelines(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs)


train = [question(number) for number in range(30)]
test = [question(number) for number in range(100, 120)]
passages = [passage(number) for number in range(13)]
endings = [ending(number) for number in range(12)]
lines("choice_train.jsonl", train)
lines("choice_test.jsonl", test)
lines("validation-00000-of-00001.jsonl", endings)
with open("last_word_test.json", "w") as file:
    json.dump(passages, file, indent=1)
    file.write("\n")
expected = {
    "choice": choice_task(test, train, 0),
    "choice_shots": choice_task(test, train, 2),
    "choice_short": choice_task(test, train, 2, most=24),
    "choice_begin": choice_task(test, train, 0, begin=True),
    "last_word": last_word_task(passages, 0),
    "last_word_shots": last_word_task(passages, 3),
    "endings": ending_task(endings),
}
with open("expected.json", "w") as file:
    json.dump(expected, file, indent=1)
    file.write("\n")
