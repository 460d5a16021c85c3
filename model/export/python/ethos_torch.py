"""The network of an exported model, in plain PyTorch.

Needs nothing but PyTorch (1.12 or later):

    from ethos_torch import load
    model = load("folder")                        # config.json and model.safetensors
    logits = model(torch.tensor([[1, 2, 3]]))     # [batch, tokens, vocabulary]

`section` is the key `model` of config.json: the sizes, the kind of attention and the kind of feed-forward layer. Modules and
parameters have the names of the file. Activations are rows, `y = x W`, and matrices are input x output. Routers use their running
statistics, in training too. Every call reads whole sequences; there is no cache of keys and values.
"""

import json
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F


def parameter(*shape):
    """A parameter without values, which a file gives."""
    return nn.Parameter(torch.empty(*shape))


def best(values, k):
    """The k largest numbers of the last axis and their positions, best first; of equals the lower position comes first."""
    values, index = torch.sort(values, dim=-1, descending=True, stable=True)
    return values[..., :k], index[..., :k]


def sum_before(shares):
    """At each position of the last axis the sum of those before it."""
    return F.pad(shares.cumsum(-1)[..., :-1], (1, 0))


def rms(x, epsilon=1e-6):
    """Rows over the root of their mean square."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon)


def gelu(x, form="tanh"):
    """The activation with tanh, or `exact` with the error function."""
    return F.gelu(x, approximate="tanh" if form == "tanh" else "none")


class Norm(nn.Module):
    """Root mean square with a gain, or mean and variance with a gain and a bias."""

    def __init__(self, width, kind="rms", epsilon=1e-6):
        super().__init__()
        self.epsilon = epsilon
        self.weight = parameter(width)
        if kind == "layer":
            self.bias = parameter(width)

    def forward(self, x):
        if hasattr(self, "bias"):
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.epsilon)
        return rms(x, self.epsilon) * self.weight


class Table(nn.Module):
    """Rows by number: embedding, learned positions, or the output head."""

    def __init__(self, rows, width):
        super().__init__()
        self.weight = parameter(rows, width)

    def forward(self, index):
        return F.embedding(index, self.weight)


# Attention


def frequencies(columns, base, scaling=None, device=None):
    """Radians a position of each pair of columns, float64; `scaling` slows them down for longer texts."""
    f = base ** (-torch.arange(0, columns, 2, dtype=torch.float64, device=device) / columns)
    if scaling is None:
        return f
    slow = f / scaling["factor"]
    if scaling["type"] == "linear":
        return slow
    turns = scaling["original_max_position_embeddings"] * f / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - share) * slow + share * f


def rotate(u, positions, base, scaling=None):
    """Turns the columns i and i + n/2 of u [B, heads, L, n] with the position [B, L]."""
    f = frequencies(u.shape[-1], base, scaling, u.device)
    angle = (positions[:, None, :, None].double() * f).repeat(1, 1, 1, 2)
    a, b = u.chunk(2, dim=-1)
    return u * angle.cos().to(u.dtype) + torch.cat([-b, a], dim=-1) * angle.sin().to(u.dtype)


def attend(query, key, value, visible):
    """Values by the softmax of queries and keys [B, heads, L, width], heads after one another: [B, L, heads * width]."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    shares = torch.softmax(scores.masked_fill(~visible, torch.finfo(scores.dtype).min), dim=-1)
    return (shares @ value).transpose(1, 2).flatten(2)


class Mla(nn.Module):
    """Multi-head latent attention: low-rank queries, keys and values, and one rotary key that all heads share."""

    def __init__(self, d_model, section):
        super().__init__()
        self.section = section
        heads, rank = section["num_heads"], section["kv_lora_rank"]
        nope, rope, d_v = section["d_nope"], section["d_rope"], section["d_v"]
        self.w_dq = parameter(d_model, section["q_lora_rank"])
        self.q_norm = Norm(section["q_lora_rank"])
        self.w_uq = parameter(section["q_lora_rank"], heads * (nope + rope))
        self.w_dkv = parameter(d_model, rank + rope)
        self.kv_norm = Norm(rank)
        self.w_ukv = parameter(rank, heads * (nope + d_v))
        self.w_o = parameter(heads * d_v, d_model)

    def forward(self, x, positions, visible):
        s = self.section
        heads, base = s["num_heads"], s["rope_base"]
        by_head = lambda m: m.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, heads, L, width]
        query = by_head(self.q_norm(x @ self.w_dq) @ self.w_uq)
        latent, shared = (x @ self.w_dkv).split([s["kv_lora_rank"], s["d_rope"]], dim=-1)
        key, value = by_head(self.kv_norm(latent) @ self.w_ukv).split([s["d_nope"], s["d_v"]], dim=-1)
        plain, turned = query.split([s["d_nope"], s["d_rope"]], dim=-1)
        query = torch.cat([plain, rotate(turned, positions, base)], dim=-1)
        shared = rotate(shared[:, None], positions, base).expand(-1, heads, -1, -1)
        return attend(query, torch.cat([key, shared], dim=-1), value, visible) @ self.w_o


class Mha(nn.Module):
    """Multi-head attention, whose heads may share keys and values in groups."""

    def __init__(self, d_model, section):
        super().__init__()
        self.section = section
        self.heads = section["num_heads"]
        self.groups = section.get("num_kv_heads", self.heads)
        self.width = section.get("d_head", d_model // self.heads)
        columns = (self.heads + 2 * self.groups) * self.width
        self.w_qkv = parameter(d_model, columns)
        self.w_o = parameter(self.heads * self.width, d_model)
        if section["bias"]:
            self.b_qkv = parameter(columns)
            self.b_o = parameter(d_model)

    def turn(self, u, positions):
        """Turns the first `d_rope` columns."""
        s = self.section
        if s["d_rope"] == 0:
            return u
        turned, plain = u.split([s["d_rope"], self.width - s["d_rope"]], dim=-1)
        return torch.cat([rotate(turned, positions, s["rope_base"], s.get("rope_scaling")), plain], dim=-1)

    def forward(self, x, positions, visible):
        qkv = x @ self.w_qkv
        if self.section["bias"]:
            qkv = qkv + self.b_qkv
        qkv = qkv.unflatten(-1, (-1, self.width)).transpose(1, 2)  # [B, heads + 2 groups, L, width]
        query, key, value = qkv.split([self.heads, self.groups, self.groups], dim=1)
        query, key = self.turn(query, positions), self.turn(key, positions)
        key, value = (m.repeat_interleave(self.heads // self.groups, dim=1) for m in (key, value))
        y = attend(query, key, value, visible) @ self.w_o
        return y + self.b_o if self.section["bias"] else y


# Routers: the experts that a token keeps on each head, and their scores


class RunningNorm(nn.Module):
    """A batch norm by its running statistics."""

    def __init__(self, width):
        super().__init__()
        self.gamma = parameter(width)
        self.beta = parameter(width)
        self.register_buffer("mean", torch.empty(width))
        self.register_buffer("var", torch.empty(width))

    def forward(self, x):
        return (x - self.mean) / torch.sqrt(self.var + 1e-5) * self.gamma + self.beta


class ProductKeyRouter(nn.Module):
    """An expert is a pair of sub-keys; the best pairs of a head are among the best of each axis."""

    def __init__(self, d_model, section):
        super().__init__()
        self.section = section
        self.keys = math.isqrt(section["num_experts"])
        width = section["routing_heads"] * section["d_query"]
        self.w_q = parameter(d_model, width)
        self.b_q = parameter(width)
        if section["router_batch_norm"]:
            self.bn = RunningNorm(width)
        self.k1 = parameter(self.keys, section["d_query"] // 2)
        self.k2 = parameter(self.keys, section["d_query"] // 2)

    def forward(self, x):
        """x [T, D]; experts and scores [T, heads, top_k]. An expert that is not kept has the score 0."""
        s = self.section
        k = s["top_k"]
        query = x @ self.w_q + self.b_q
        if s["router_batch_norm"]:
            query = self.bn(query)
        q1, q2 = query.unflatten(-1, (s["routing_heads"], s["d_query"])).chunk(2, dim=-1)
        v1, row = best(q1 @ self.k1.t(), k)
        v2, column = best(q2 @ self.k2.t(), k)
        sums = (v1[..., :, None] + v2[..., None, :]).flatten(-2)
        expert = (row[..., :, None] * self.keys + column[..., None, :]).flatten(-2)
        expert, order = expert.sort(dim=-1)  # of equal sums the lower expert is kept
        sums, place = best(sums.gather(-1, order), k)
        return expert.gather(-1, place), self.scores(sums)

    def scores(self, sums):
        """The softmax over the experts that `choice` keeps."""
        s = self.section
        choice = s.get("choice", "top_k")
        shares = torch.softmax(sums, dim=-1)
        if choice == "top_k":
            return shares
        kept = sum_before(shares) < s["mass"] if choice == "mass" else shares >= s["threshold"]
        kept[..., : s.get("min_k", 1)] = True
        return torch.softmax(sums.masked_fill(~kept, -math.inf), dim=-1)


class BeamRouter(nn.Module):
    """An expert is an id on each of several axes; a search of beams finds the best sums."""

    def __init__(self, d_model, section):
        super().__init__()
        self.section = section
        heads, axes = section["routing_heads"], section["axes"]
        self.query_w = parameter(heads, axes, section["axis_query"], d_model)
        self.logit_scale = parameter(heads, axes)

    def codes(self, device):
        """The fixed code of every id [ids, width]: cosines and sines of float32 angles."""
        half = self.section["axis_query"] // 2
        f = (10.0 ** (-torch.arange(half, dtype=torch.float64) / max(half - 1, 1))).float()
        turn = torch.tensor(2 * math.pi, dtype=torch.float32)
        angle = (torch.arange(self.section["axis_size"]).float()[:, None] * f * turn).double()
        return torch.cat([angle.cos(), angle.sin()], dim=-1).float().to(device)

    def forward(self, x):
        """x [T, D]; ids [T, heads, top_k, axes] and scores [T, heads, top_k]."""
        s = self.section
        query = rms(torch.einsum("td,hard->thar", x, self.query_w))
        scores = query @ self.codes(x.device).to(x.dtype).t()  # [T, heads, axes, ids]
        values, ids = best(scores, min(s["axis_candidates"], s["axis_size"]))
        values = values * self.logit_scale.exp()[..., None]
        width = values.shape[-1]
        sums, chosen = values[:, :, 0, : s["beam_width"]], ids[:, :, 0, : s["beam_width"], None]
        for axis in range(1, s["axes"]):
            longer = (sums[..., :, None] + values[:, :, axis, None, :]).flatten(-2)
            sums, flat = best(longer, s["beam_width"])
            parent = torch.div(flat, width, rounding_mode="floor")[..., None].expand(-1, -1, -1, axis)
            last = ids[:, :, axis].gather(-1, flat % width)[..., None]
            chosen = torch.cat([chosen.gather(2, parent), last], dim=-1)
        return chosen[:, :, : s["top_k"]], torch.softmax(sums[..., : s["top_k"]], dim=-1)


# Feed-forward layers over the rows of x [T, D]


class Dense(nn.Module):
    """SwiGLU, or two matrices with GELU between them."""

    def __init__(self, d_model, section):
        super().__init__()
        self.activation = section.get("activation", "swiglu")
        names = ["up", "down"] if self.activation != "swiglu" else ["gate", "up", "down"]
        for name in names:
            shape = (section["d_ffn"], d_model) if name == "down" else (d_model, section["d_ffn"])
            setattr(self, f"w_{name}", parameter(*shape))
            setattr(self, f"b_{name}", parameter(shape[1]) if section.get("biases") else 0)

    def forward(self, x):
        up = x @ self.w_up + self.b_up
        if self.activation == "swiglu":
            hidden = F.silu(x @ self.w_gate + self.b_gate) * up
        else:
            hidden = gelu(up, "tanh" if self.activation == "gelu" else "exact")
        return hidden @ self.w_down + self.b_down


class Ethos(nn.Module):
    """Experts that a shared network generates from their latent codes: `h = gelu(z W1)`, `y = sum(score gelu(h . x W_u) h) W_v`."""

    def __init__(self, d_model, section):
        super().__init__()
        beam = section["router"] == "beam"
        latent, hidden, context = section["d_latent"], section["d_hidden"], section["d_context"]
        self.router = (BeamRouter if beam else ProductKeyRouter)(d_model, section)
        rows = (section["axes"], section["axis_size"]) if beam else (section["num_experts"],)
        self.z = parameter(*rows, latent)
        self.w1 = parameter(latent + context, hidden)
        self.w_u = parameter(d_model, hidden)
        self.w_v = parameter(hidden, d_model)
        if context > 0:
            self.w_c = parameter(d_model, context)

    def latent(self, index):
        """Codes of experts; behind the beam router the sum of a row of each axis."""
        if self.z.dim() == 2:
            return self.z[index]
        return sum(self.z[axis][index[..., axis]] for axis in range(self.z.shape[0]))

    def forward(self, x):
        index, score = self.router(x)
        code = self.latent(index.flatten(1, 2))  # [T, kept, d_latent]
        if hasattr(self, "w_c"):
            context = (x @ self.w_c)[:, None].expand(-1, code.shape[1], -1)
            code = torch.cat([code, context], dim=-1)
        h = gelu(code @ self.w1)
        active = gelu((h * (x @ self.w_u)[:, None]).sum(-1)) * score.flatten(1)
        return (active[..., None] * h).sum(1) @ self.w_v


class Peer(nn.Module):
    """Experts of one hidden unit, whose rows u and v are stored."""

    def __init__(self, d_model, section):
        super().__init__()
        self.router = ProductKeyRouter(d_model, section)
        self.u = parameter(section["num_experts"], d_model)
        self.v = parameter(section["num_experts"], d_model)

    def forward(self, x):
        index, score = (m.flatten(1) for m in self.router(x))
        active = gelu((self.u[index] * x[:, None]).sum(-1)) * score
        return (active[..., None] * self.v[index]).sum(1)


class Mixture(nn.Module):
    """Stored experts, each of which computes the rows of the tokens that keep it."""

    def __init__(self, d_model, section):
        super().__init__()
        self.section = section
        self.w_g = parameter(d_model, section["num_experts"])

    def forward(self, x):
        index, weight = self.gate(x @ self.w_g)
        y = torch.zeros_like(x)
        for e in range(self.section["num_experts"]):
            token, place = torch.nonzero(index == e, as_tuple=True)
            y = y.index_add(0, token, self.expert(e, x[token]) * weight[token, place, None])
        return y


class Switch(Mixture):
    """SwiGLU experts, of which a token uses the most probable one, times its probability."""

    def __init__(self, d_model, section):
        super().__init__(d_model, section)
        shape = (section["num_experts"], d_model, section["d_expert"])
        self.w_gate = parameter(*shape)
        self.w_up = parameter(*shape)
        self.w_down = parameter(shape[0], shape[2], shape[1])

    def gate(self, logits):
        index = best(logits, 1)[1]
        return index, torch.softmax(logits, dim=-1).gather(-1, index)

    def expert(self, e, x):
        return (F.silu(x @ self.w_gate[e]) * (x @ self.w_up[e])) @ self.w_down[e]


class TopkMoe(Mixture):
    """GELU experts, of which a token uses the k best, or as many of them as come to `top_p`."""

    def __init__(self, d_model, section):
        super().__init__(d_model, section)
        experts, d_expert = section["num_experts"], section["d_expert"]
        self.w1 = parameter(experts, d_model, d_expert)
        self.w2 = parameter(experts, d_expert, d_model)
        if section["biases"]:
            self.b1 = parameter(experts, d_expert)
            self.b2 = parameter(experts, d_model)

    def gate(self, logits):
        values, index = best(logits, self.section["top_k"])
        if self.section["choice"] == "top_p":
            kept = sum_before(torch.softmax(logits, dim=-1).gather(-1, index)) < self.section["top_p"]
            kept[..., 0] = True
            values = values.masked_fill(~kept, -math.inf)
        return index, torch.softmax(values, dim=-1)

    def expert(self, e, x):
        b1, b2 = (self.b1[e], self.b2[e]) if self.section["biases"] else (0, 0)
        return gelu(x @ self.w1[e] + b1, self.section["gelu"]) @ self.w2[e] + b2


ATTENTION = {"mha": Mha, "mla": Mla}
FFN = {"dense": Dense, "ethos": Ethos, "peer": Peer, "switch": Switch, "topk_moe": TopkMoe}


# The network


class Block(nn.Module):
    """A layer: attention and feed-forward, each behind a norm, added to the residual stream."""

    def __init__(self, section, i):
        super().__init__()
        d_model, trunk = section["d_model"], section["trunk"]
        leading = section["leading_dense"]
        ffn = {"kind": "dense", "d_ffn": leading["d_ffn"]} if i < leading["num_layers"] else section["ffn"]
        self.parallel = trunk["residual"] == "parallel"
        self.attn_norm = Norm(d_model, trunk["norm"], trunk["epsilon"])
        self.attn = ATTENTION[section["attention"]["kind"]](d_model, section["attention"])
        self.ffn_norm = Norm(d_model, trunk["norm"], trunk["epsilon"])
        self.ffn = FFN[ffn["kind"]](d_model, ffn)

    def forward(self, x, positions, visible):
        between = x + self.attn(self.attn_norm(x), positions, visible)
        rows = self.ffn_norm(x if self.parallel else between)
        return between + self.ffn(rows.flatten(0, 1)).view_as(x)


def parts(section):
    """The modules of a model by name."""
    d_model, vocabulary, trunk = section["d_model"], section["vocab_size"], section["trunk"]
    modules = {"embed": Table(vocabulary, d_model)}
    if trunk["positions"] == "learned":
        modules["position"] = Table(trunk["max_positions"], d_model)
    modules["layers"] = nn.ModuleList(Block(section, i) for i in range(section["num_layers"]))
    modules["final_norm"] = Norm(d_model, trunk["norm"], trunk["epsilon"])
    if trunk["head"] == "own":
        modules["head"] = Table(vocabulary, d_model)
    return modules


def logits_of(model, section, tokens, mask=None):
    """Logits [B, L, V] of tokens [B, L] by a module that has the `parts`. `mask` [B, L] is 0 where a token only fills up."""
    trunk = section["trunk"]
    length = tokens.shape[1]
    if trunk["positions"] == "learned" and length > trunk["max_positions"]:
        raise ValueError(f"The sequence has {length} tokens, and the model has {trunk['max_positions']} positions")
    visible = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()[None, None]
    positions = torch.arange(length, device=tokens.device).expand(tokens.shape)
    if mask is not None:
        visible = visible & mask.bool()[:, None, None, :]
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    x = model.embed(tokens)
    if trunk["positions"] == "learned":
        x = x + model.position(positions)
    for layer in model.layers:
        x = layer(x, positions, visible)
    head = model.head if trunk["head"] == "own" else model.embed
    return model.final_norm(x) @ head.weight.t()


class Network(nn.Module):
    """A model of a section."""

    def __init__(self, section):
        super().__init__()
        self.section = section
        for name, module in parts(section).items():
            self.add_module(name, module)

    def forward(self, tokens, mask=None):
        return logits_of(self, self.section, tokens, mask)


def read_safetensors(path):
    """The tensors of a file in f32 by name."""
    tensors = {}
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] != "F32":
                raise ValueError(f"{path}: {name} is {entry['dtype']}, expected F32")
            begin, end = entry["data_offsets"]
            file.seek(start + begin)
            values = torch.frombuffer(bytearray(file.read(end - begin)), dtype=torch.float32)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def load(folder):
    """The model of an exported folder, for evaluation."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        model = Network(json.load(file)["model"])
    model.load_state_dict(read_safetensors(os.path.join(folder, "model.safetensors")))
    return model.eval()
