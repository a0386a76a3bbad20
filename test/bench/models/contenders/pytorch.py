"""transformers on PyTorch, CPU. The argument is the model's directory."""
import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, attn_implementation="sdpa").eval()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)


@torch.inference_mode()
def generate(prompts, new_tokens):
    """The loop of `generate()` for greedy decoding, without its bookkeeping, which would cost PyTorch more."""
    tokens = torch.tensor(prompts)
    cache, written = None, []
    for _ in range(new_tokens):
        output = model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        tokens = output.logits[:, -1].argmax(-1, keepdim=True)
        written.append(tokens)
    return torch.cat(written, 1).flatten().tolist()


def train(sequences):
    tokens = torch.tensor(sequences)
    logits = model(tokens[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return [loss.item()]


def best(run, rounds=7):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def limits():
    """What the cores multiply and read: a product of 1024 × 1024 matrices, and a sum over 256 MiB."""
    a, b, long = torch.rand(1024, 1024), torch.rand(1024, 1024), torch.rand(64 << 20)
    return {"gflops": 2 * 1024**3 / best(lambda: a @ b) / 1e9, "readGBs": 4 * long.numel() / best(long.sum) / 1e9}


def say(answer):
    print("@bench " + json.dumps(answer), flush=True)


say({"version": f"{torch.__version__} (transformers {transformers.__version__})"})
for line in sys.stdin:
    request = json.loads(line)
    if request["kind"] == "limits":
        say(limits())
        continue
    wall, cpu = time.perf_counter(), time.process_time()
    if request["kind"] == "train":
        result = train(request["sequences"])
    else:
        result = generate(request["prompts"], request["newTokens"])
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    say({"wall": 1000 * wall, "cpu": 1000 * cpu, "result": result})
